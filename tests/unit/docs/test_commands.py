"""Commands and config keys that pages show are those of this version."""

import re
import shlex

import pytest

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.names.tree import all_keys
from tests.helpers.repository import ROOT
from tests.unit.eeg2fmri_dist.config.test_loading import SCHEMAS

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
KEYS = {key for schema in SCHEMAS.values() for key in all_keys(schema)}
FILES = (".h5", ".json", ".md", ".png", ".py", ".safetensors", ".yaml")
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}


def commands(text):
    """Yield verb, config and overrides of every shown command whose config is one of ours."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        found = re.search(r"launch/(\w+)\.py (configs/\S+\.yaml)([^`|]*)", line)
        if found and (ROOT / found[2]).is_file():
            words = shlex.split(found[3], comments=True)
            yield (
                found[1],
                found[2],
                [
                    word
                    for word in words
                    if re.match(r"[a-z_.]+=[^$]", word)  # no shell variables
                ],
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood_and_name_no_former_key(page, caplog):
    for verb, config, overrides in commands(page.read_text(encoding="utf-8")):
        load_config(SCHEMAS[verb], ROOT / config, overrides)
        assert "is now called" not in caplog.text, (verb, config, overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_the_text_are_keys_of_a_command(page):
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:[=:][^`]*)?`", page.read_text("utf-8"))
    meant = {key for key in named if key.partition(".")[0] in SECTIONS}
    files = {key for key in meant if key.endswith(FILES)}
    assert meant - files <= KEYS
