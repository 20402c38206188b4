"""The documentation: links lead somewhere, files that it names are there, the README is short."""

import pytest

from tests.helpers.markdown import anchors, find_absent_files, find_broken_links
from tests.helpers.repository import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    assert find_broken_links(page, ROOT) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_and_modules_that_a_page_names_exist(page):
    assert find_absent_files(page, ROOT) == []


def test_the_readme_has_at_most_1000_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


def test_every_page_is_in_the_navigation_and_in_the_table_of_contents():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [name for name in pages if f" {name}\n" not in navigation] == []
    assert [name for name in pages - {"index.md"} if f"({name})" not in contents] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[there](other.md) and [its part](other.md#a-heading)", []),
        ("[gone](none.md)", ["page.md: none.md (no such file)"]),
        ("[no part](other.md#none)", ["page.md: other.md#none (no such heading)"]),
        ("[own part](#none)", ["page.md: #none (no such heading)"]),
        ("[out](../elsewhere.md)", ["page.md: ../elsewhere.md (no such file)"]),
        ("[web](https://example.org/none) and `[code](none.md)`", []),
        ("```\n[block](none.md)\n```", []),
    ],
)
def test_broken_links_are_found(tmp_path, text, found):
    (tmp_path / "other.md").write_text("# A heading\n")
    page = tmp_path / "page.md"
    page.write_text(text)
    assert find_broken_links(page, tmp_path) == found


def test_anchors_are_those_on_which_github_and_the_site_agree():
    text = "# The `store`, in short\n## EEG & BOLD\n```\n# no heading\n```\n"
    assert anchors(text) == {"the-store-in-short"}


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("`launch/train.py configs/train/{cae,none}.yaml`", ["configs/train/none.yaml"]),
        ("`configs/train/*.yaml` and runs/configs/none.yaml", []),
        ("`preprocessing.recordings.Recording`", []),
        ("`preprocessing.none.Recording`", ["preprocessing.none.Recording"]),
        ("`eeg2fmri_dist.store.Store`", []),
        ("`eeg2fmri_dist/none/`", ["eeg2fmri_dist/none"]),
    ],
)
def test_absent_files_are_found(tmp_path, text, absent):
    for name in ("launch/train.py", "configs/train/cae.yaml", "preprocessing/recordings.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "preprocessing/__init__.py").touch()
    (tmp_path / "eeg2fmri_dist/store").mkdir(parents=True)
    (tmp_path / "eeg2fmri_dist/store/__init__.py").write_text("__all__ = ['Store']")
    page = tmp_path / "page.md"
    page.write_text(text)
    assert find_absent_files(page, tmp_path) == [f"page.md: {name}" for name in absent]
