"""Nuisance regressors beside the samples, and readers that know nothing of them."""

import h5py
import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError, StoreError
from eeg2fmri_dist.store import Confounds, RecordingEntry, Store, merge, verify, write_shard
from eeg2fmri_dist.store.__main__ import main
from tests.helpers.stores import TR_S, make_layout, make_recording

NAMES = ("trans_x_mm", "framewise_displacement_mm")


def write(path, subject, confounds):
    layout = make_layout()
    eeg, bold = make_recording(np.random.default_rng(1), layout, 6, 1.0)
    entry = RecordingEntry(subject, "", "", TR_S, 0, 6)
    write_shard(path, layout, entry, eeg, bold, confounds=confounds)
    return path


def confounds(offset, names=NAMES):
    values = offset + np.arange(6 * len(names), dtype=np.float32).reshape(6, -1)
    return Confounds(names, values)


def test_confounds_follow_the_samples_through_a_merge(tmp_path):
    shards = [
        write(tmp_path / "1.h5", "1", confounds(0)),
        write(tmp_path / "2.h5", "2", None),
        write(tmp_path / "3.h5", "3", confounds(100, (*NAMES, "std_dvars"))),
    ]
    merge(shards, tmp_path / "store.h5")
    found = Store(tmp_path / "store.h5").confounds
    assert found.names == (*NAMES, "std_dvars")
    np.testing.assert_array_equal(found.values[:6, :2], confounds(0).values)
    assert np.isnan(found.values[:6, 2]).all()
    assert np.isnan(found.values[6:12]).all()
    np.testing.assert_array_equal(found.values[12:, 2], confounds(100, (*NAMES, "x")).values[:, 2])
    assert verify(tmp_path / "store.h5") == []


def test_plain_h5py_finds_them_with_their_names(tmp_path):
    with h5py.File(write(tmp_path / "1.h5", "1", confounds(0))) as file:
        assert list(file["confounds"].attrs["names"]) == list(NAMES)
        assert file["confounds"].shape == (6, 2)
        assert [axis.label for axis in file["confounds"].dims] == ["sample", "confound"]


def test_readers_that_do_not_know_them_find_the_same_store(tmp_path):
    """Neither fingerprint nor samples depend on the addition."""
    with_them = Store(write(tmp_path / "1.h5", "1", confounds(0)))
    without = Store(write(tmp_path / "2.h5", "1", None))
    assert with_them.fingerprint == without.fingerprint
    assert with_them.is_mapped
    np.testing.assert_array_equal(with_them.bold(0, 6), without.bold(0, 6))
    assert without.confounds is None


def test_a_changed_value_is_found_and_not_merged(tmp_path, capsys):
    path = write(tmp_path / "1.h5", "1", confounds(0))
    with h5py.File(path, "r+") as file:
        file["confounds"][2, 1] = 7
    assert verify(path) == ["/confounds does not match its checksum"]
    with pytest.raises(StoreError, match="confounds does not match"):
        merge([path], tmp_path / "store.h5")
    assert main(["info", str(path)]) == 0
    assert "confounds    trans_x_mm, framewise_displacement_mm" in capsys.readouterr().out


def test_a_wrong_shape_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"confounds have shape \(5, 2\), expected \(6, 2\)"):
        write(tmp_path / "1.h5", "1", Confounds(NAMES, np.zeros((5, 2), np.float32)))
