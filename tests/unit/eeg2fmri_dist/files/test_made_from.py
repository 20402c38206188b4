"""Is a result what it would be made from now, and what is said if not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeg2fmri_dist.files.made_from import (
    NO_RECORD,
    describe,
    differences,
    read_record,
    shown,
    why_stale,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1))
def test_what_was_kept_as_json_is_the_same_when_it_is_read(parts):
    description = describe(**{"parts": parts})
    assert why_stale(json.loads(json.dumps(description)), description) is None


def test_paths_and_tuples_are_described_as_json_has_them():
    assert describe(grid=(4, 4, 2), store=Path("a/b.h5")) == {"grid": [4, 4, 2], "store": "a/b.h5"}
    with pytest.raises(TypeError, match="cannot be part"):
        describe(model=object())


def test_a_change_is_named_by_its_whole_key():
    old = describe(bold={"grid": (64, 64, 30), "seed": 0}, eeg={"window_s": 1.0})
    new = describe(bold={"grid": (32, 32, 16), "seed": 0}, eeg={"window_s": 1.0})
    assert why_stale(old, new) == "bold.grid changed from [64, 64, 30] to [32, 32, 16]"
    more = describe(bold={"grid": (32, 32, 16), "seed": 1}, eeg={"window_s": 1.0})
    assert why_stale(old, more).endswith("to [32, 32, 16] (and 1 more)")


def test_a_key_that_is_new_or_gone_is_a_difference():
    (new,) = differences({"a": 1}, {"a": 1, "b": {"c": 2}})
    assert new == ("b", None, {"c": 2})
    (gone,) = differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}})
    assert gone == ("a.c", 2, None)


@pytest.mark.parametrize("recorded", [None, {}, "a hash", 3, []])
def test_anything_but_a_record_counts_as_none(recorded):
    assert why_stale(recorded, {"a": 1}) == NO_RECORD


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_damaged_record_is_no_record(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert read_record(path) == {}
    assert read_record(tmp_path / "missing.json") == {}


def test_hashes_and_long_lists_are_cut():
    assert shown("0123456789abcdef" * 4) == "0123456789ab"
    assert len(shown(list(range(100)))) == 60
    assert shown("a sentence that is not a hash at all") == "a sentence that is not a hash at all"
