"""Markdown pages of the repository: their links, their headings, the files that they name."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import unquote

ROOMS = "launch|configs|slurm|docs|tests|preprocessing|eeg2fmri_dist"
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_PATH = re.compile(rf"(?<![\w/.$:=-])(?:{ROOMS})/[\w./{{}},*-]*[\w}}*]")
_MODULE = re.compile(r"(?<![\w/.-])(?:preprocessing|eeg2fmri_dist)(?:\.[A-Za-z_]\w*)+")
_ENDINGS = {"h5", "md", "yaml"}


def find_broken_links(page: Path, root: Path) -> list[str]:
    """Say which relative links of a page lead nowhere, to no heading, or out of the repository."""
    broken = []
    for target in _LINK.findall(_without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or root not in file.parents:
            broken.append(f"{page.relative_to(root)}: {target} (no such file)")
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            broken.append(f"{page.relative_to(root)}: {target} (no such heading)")
    return broken


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a page have on GitHub and on the site alike."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[*`]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = re.sub(r"[^\w\s-]", "", plain).strip()
        on_github, on_site = re.sub(r"\s", "-", kept), re.sub(r"[-\s]+", "-", kept)
        if on_github == on_site:
            found.add(on_site)
    return found


def find_absent_files(page: Path, root: Path) -> list[str]:
    """Say which files and modules of the repository a page names that are not there."""
    text = page.read_text(encoding="utf-8")
    absent = [
        name
        for match in _PATH.findall(text)
        for name in _expanded(match)
        if not (root / name).exists() and not any(root.glob(name))
    ]
    absent += [name for name in _MODULE.findall(text) if not _is_module(name, root)]
    return [f"{page.relative_to(root)}: {name}" for name in sorted(set(absent))]


def _without_code(text: str) -> str:
    return _INLINE_CODE.sub("", _FENCE.sub("", text))


def _expanded(name: str) -> Iterator[str]:
    """Expand braces as a shell does."""
    parts = [part.strip("{}").split(",") for part in re.split(r"(\{[^}]*\})", name)]
    yield from ("".join(chosen) for chosen in product(*parts))


def _is_module(name: str, root: Path) -> bool:
    """Whether a dotted name leads to a module, or to what a module or package may hold."""
    room, *rest = name.split(".")
    if rest[0] in _ENDINGS:
        return True
    place = root / room
    for part in rest:
        if (place / part).is_dir():
            place = place / part
            continue
        module = place / f"{part}.py"
        inside = place / "__init__.py"
        return module.is_file() or part in inside.read_text(encoding="utf-8")
    return True
