"""Templates of all pages: what is escaped, what a page loads, what a template may leave out."""

import configparser
import re
import sys

import pytest
from jinja2 import TemplateNotFound, UndefinedError

import eeg2fmri_dist
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.templates import render
from tests.helpers.repository import ROOT

HOSTILE = '"><script>alert(1)</script>'
BASE = '{% extends "eeg2fmri_dist/pages/base.html.j2" %}\n'
PAGE = (
    BASE
    + """
{% from "eeg2fmri_dist/pages/macros.html.j2" import facts_table, show %}
{% block title %}{{ text }}{% endblock %}
{% block header %}<h1>{{ text }}</h1>{% endblock %}
{% block main %}{{ show(figure, level=3) }}{{ facts_table({text: text}) }}{% endblock %}
"""
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a template into a package of its own; returns its path as `render` takes it."""
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def written(text, name="page.html.j2"):
        (package / name).write_text(text)
        return f"a_package/{name}"

    yield written
    sys.modules.pop("a_package", None)


def hostile_figure(**changes):
    words = {"title": HOSTILE, "caption": HOSTILE, "alt": HOSTILE, "data": b"<svg/>"}
    return Figure(**words, media_type="image/svg+xml", **changes)


def test_all_text_of_a_page_is_escaped(write):
    page = render(write(PAGE), {"text": HOSTILE, "figure": hostile_figure(wide=True)})
    assert "<script>" not in page
    assert page.count("&#34;&gt;&lt;script&gt;") == 7
    assert '<figure class="wide"><h3>' in page


def test_markdown_is_not_escaped(write):
    assert render(write("{{ text }}", "card.md.j2"), {"text": "a < b & c"}) == "a < b & c"


def test_a_template_of_another_kind_is_escaped(write):
    assert render(write("{{ text }}", "note.txt.j2"), {"text": "a < b"}) == "a &lt; b"


def test_a_page_has_the_style_of_the_suite_and_loads_nothing(write):
    page = render(write(PAGE), {"text": "x", "figure": hostile_figure()})
    assert page.startswith("<!DOCTYPE html>\n")
    assert "prefers-color-scheme: dark" in page
    assert f"Made by eeg2fmri_dist {eeg2fmri_dist.__version__}." in page
    assert re.findall(r'src="(data:image/svg\+xml;base64,)', page)
    assert not re.search(r'(src|href)="(?!data:)|@import|url\(', page)


def test_a_page_may_add_a_style_and_a_script(write):
    own = (
        "{% block style %}\nh1 { color: red; }\n{% endblock %}{% block script %}<script>1</script>"
    )
    page = render(write(PAGE + own + "{% endblock %}"), {"text": "x", "figure": hostile_figure()})
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert style.rstrip().endswith("h1 { color: red; }")
    assert page.index("</footer>") < page.index("<script>1</script>") < page.index("</body>")


def test_a_value_that_was_not_given_is_an_error(write):
    with pytest.raises(UndefinedError, match="figure"):
        render(write(PAGE), {"text": "x"})


@pytest.mark.parametrize("block", ["title", "header", "main"])
def test_a_page_without_a_part_of_every_page_is_an_error(write, block):
    parts = {name: f"{{% block {name} %}}x{{% endblock %}}" for name in ("title", "header", "main")}
    del parts[block]
    with pytest.raises(Exception, match=block):
        render(write(BASE + "".join(parts.values())), {})


def test_a_template_that_does_not_exist_is_an_error():
    with pytest.raises(TemplateNotFound, match=r"none\.html\.j2"):
        render("eeg2fmri_dist/pages/none.html.j2", {})


def test_filters_are_those_of_the_page(write):
    page = render(write("{{ 2 | double }}"), {}, {"double": lambda number: 2 * number})
    assert page == "4"


def test_every_file_of_a_page_is_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    packed = {
        path
        for package, patterns in settings["options.package_data"].items()
        for pattern in patterns.split(",")
        for path in (ROOT / package.replace(".", "/")).glob(pattern.strip())
    }
    found = {
        path
        for package in ("eeg2fmri_dist", "preprocessing")
        for kind in ("j2", "css", "js")
        for path in (ROOT / package).rglob(f"*.{kind}")
    }
    assert found
    assert found - packed == set()
