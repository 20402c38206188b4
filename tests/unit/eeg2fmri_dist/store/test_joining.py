"""Stores merged into a third or appended to one: what fits, and what is refused by name."""

import dataclasses
import tracemalloc

import h5py
import numpy as np
import pytest

from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.store import (
    Confounds,
    LeftOut,
    RecordingEntry,
    Store,
    merge,
    verify,
    write_shard,
)
from eeg2fmri_dist.store.__main__ import main
from eeg2fmri_dist.store.joining import append_stores, merge_stores
from tests.helpers.stores import CHANNELS, FREQUENCIES_HZ, make_layout

GRID = (6, 5, 4)
SETTINGS = {
    "method": 2,
    "dummy_scans": 5,
    "source": {"name": "noddi", "eeg": "raw", "origin": "real", "tr_s": None},
    "eeg": {"marker": "R128", "band_hz": [1.0, 30.0]},
}


def settings(**changes):
    """The settings of a store, with some of them changed: ``source__name="bids"``."""
    changed = {
        name: dict(part) if isinstance(part, dict) else part for name, part in SETTINGS.items()
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            changed[section][name] = value
        else:
            changed[section] = value
    return changed


@pytest.fixture
def write(tmp_path):
    """Write a store of one recording; returns its path."""

    def write(subject, n_samples=4, *, tr_s=2.0, confounds=None, task="", grid=GRID, **parts):
        layout = dataclasses.replace(make_layout(grid), preprocessing=SETTINGS)
        layout = dataclasses.replace(layout, **parts)
        rng = np.random.default_rng(int(subject))
        shape = (n_samples, len(layout.channel_names), len(layout.frequencies_hz))
        bold = rng.normal(100, 5, (n_samples, *grid)).astype(np.float32) * layout.mask
        path = tmp_path / f"{subject}.h5"
        recording = RecordingEntry(subject, "", "", tr_s, 0, n_samples, task=task)
        eeg = rng.gamma(2.0, size=shape).astype(np.float32)
        write_shard(path, layout, recording, eeg, bold, confounds=confounds)
        return path

    return write


def test_a_third_store_holds_both_and_the_two_stay(write, tmp_path):
    moved = Confounds(("trans_x_mm",), np.ones((3, 1), np.float32))
    first, second = write("1"), write("2", 3, confounds=moved, task="rest")
    before = first.read_bytes(), second.read_bytes()
    store = merge_stores([first, second], tmp_path / "both.h5")
    assert [entry.key for entry in store.recordings] == ["sub-1", "sub-2_task-rest"]
    np.testing.assert_array_equal(store.bold(4, 7), Store(second).bold(0, 3))
    np.testing.assert_array_equal(store.eeg(0, 4), Store(first).eeg(0, 4))
    assert np.isnan(store.confounds.values[:4]).all()
    assert (store.confounds.values[4:] == 1).all()
    assert (first.read_bytes(), second.read_bytes()) == before
    assert verify(store.path) == []


def test_appending_replaces_the_store_by_the_longer_one(write):
    path = write("1")
    known = Store(path).bold(0, 4).copy()
    store = append_stores(path, [write("2", 3), write("3", 2)])
    assert store.path == path
    assert [entry.first_sample for entry in store.recordings] == [0, 4, 7]
    np.testing.assert_array_equal(store.bold(0, 4), known)
    assert verify(path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (6, 5, 5)}, r"grids differ \(\(6, 5, 5\) here, \(6, 5, 4\) there\)"),
        ({"channel_names": ("Fz", *CHANNELS[1:])}, r"channel names differ \(\('Fz', 'Fp2'"),
        ({"frequencies_hz": FREQUENCIES_HZ + 1}, r"frequencies differ \(\[2\.0, 3\.0"),
        ({"tr_s": 2.16}, r"TR of sub-2 is 2\.16 s, of sub-1 2 s"),
        ({"eeg_unit": "dB"}, r"EEG units differ \(dB here, uV\^2 there\)"),
        ({"preprocessing": settings(dummy_scans=3)}, "settings dummy_scans differ"),
        ({"preprocessing": settings(method=1)}, "settings method differ"),
        ({"preprocessing": settings(source__origin="simulated")}, r"source\.origin differ"),
        (
            {"preprocessing": settings(eeg__band_hz=[1.0, 40.0])},
            r"eeg\.band_hz differ \(\[1\.0, 40\.0\] here, \[1\.0, 30\.0\] there\)",
        ),
    ],
)
def test_what_does_not_match_is_named_and_nothing_is_written(write, tmp_path, changes, message):
    first, second = write("1"), write("2", **changes)
    files = sorted(tmp_path.iterdir())
    before = first.read_bytes()
    for join in (
        lambda: merge_stores([first, second], tmp_path / "both.h5"),
        lambda: append_stores(first, [second]),
    ):
        with pytest.raises(StoreError, match=message) as error:
            join()
        assert "2.h5" in str(error.value)
        assert "1.h5" in error.value.what
    assert sorted(tmp_path.iterdir()) == files
    assert first.read_bytes() == before


def test_sources_and_markers_may_differ_and_are_then_left_unsaid(write, tmp_path):
    other = settings(source__name="bids", source__tr_s=2.0, eeg__marker=None)
    store = merge_stores([write("1"), write("2", preprocessing=other)], tmp_path / "both.h5")
    kept = store.layout.preprocessing
    assert kept["source"] == {"eeg": "raw", "origin": "real"}
    assert kept["eeg"] == {"band_hz": [1.0, 30.0]}
    assert kept["dummy_scans"] == 5
    again = merge_stores([store.path, write("3")], tmp_path / "all.h5")
    assert again.layout.preprocessing == kept


def test_other_schemas_duplicates_and_damage_are_refused(write, tmp_path, capsys):
    first, second = write("1"), write("2")
    output = tmp_path / "both.h5"
    assert main(["merge", str(output), str(first), str(first)]) == 3
    assert "sub-1 is in 1.h5 already" in capsys.readouterr().err
    assert main(["merge", str(first), str(second), str(second)]) == 3
    assert "exists already" in capsys.readouterr().err
    content = bytearray(second.read_bytes())
    content[content.index(Store(second).bold(2, 3).tobytes())] ^= 4
    second.write_bytes(content)
    assert main(["merge", str(output), str(first), str(second)]) == 3
    assert "row 2 of bold does not match its checksum" in capsys.readouterr().err
    third = write("3")
    with h5py.File(third, "r+") as file:
        file.attrs["version"] = 99
    assert main(["append", str(first), str(third)]) == 3
    assert "store format version 99" in capsys.readouterr().err
    assert not output.exists()
    assert verify(first) == []


def test_a_store_that_preprocessing_keeps_is_not_appended_to(write, capsys):
    first, second = write("1"), write("2")
    first.with_suffix(".shards").mkdir()
    assert main(["append", str(first), str(second)]) == 3
    assert "launch/preprocess.py makes this store of its shards" in capsys.readouterr().err


def test_reasons_are_joined_and_recordings_that_are_there_are_not_left_out(write, tmp_path, capsys):
    first = tmp_path / "first.h5"
    left_out = [LeftOut("sub-2", "failed", "no markers"), LeftOut("sub-9", "excluded", "moved")]
    merge([write("1")], first, left_out=left_out)
    output = tmp_path / "both.h5"
    assert main(["merge", str(output), str(first), str(write("2"))]) == 0
    assert "8 samples of 2 recordings" in capsys.readouterr().out
    assert Store(output).left_out == (LeftOut("sub-9", "excluded", "moved"),)
    main(["info", str(output)])
    assert "left out: sub-9: excluded: moved" in capsys.readouterr().out
    with h5py.File(output, "r+") as file:
        row = file["left_out"][0]
        row["reason"] = "forged"
        file["left_out"][0] = row
    assert verify(output) == ["/left_out does not match its checksum"]


def test_merging_holds_a_few_chunks_in_memory(write, tmp_path):
    paths = [write(str(number), 60, grid=(40, 40, 20)) for number in (1, 2)]
    total = sum(path.stat().st_size for path in paths)
    tracemalloc.start()
    try:
        merge_stores(paths, tmp_path / "both.h5")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 15e6
    assert peak < 4e6
