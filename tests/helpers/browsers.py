"""A page in a real headless Chromium: what its scripts measured, what its console said."""

import html
import json
import shutil
import subprocess

import pytest


def quoted(text):
    """Return text as a JavaScript string that does not end the script that quotes it."""
    return json.dumps(text).replace("</", "<\\/")


def measure(folder, page, *flags):
    """Open a page; return the JSON that it leaves as its title, and its console's lines."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    (folder / "page.html").write_text(page, encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/data"),
            *("--virtual-time-budget=10000", "--enable-logging=stderr", *flags),
            *("--dump-dom", f"file://{folder}/page.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title)), console
