"""A store copied to a disk of this node; tests/slurm does it on two nodes, with MPI and without."""

import shutil
from collections import namedtuple

import pytest

from eeg2fmri_dist.data import staging
from eeg2fmri_dist.data.staging import SCRATCH_VARIABLE, stage, staged_copy
from tests.helpers.stores import make_store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store.h5", n_subjects=1, n_volumes=8)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_a_copy_is_made_once_and_used(store, scratch):
    assert staged_copy(store) == store
    assert "copied" in stage(store, scratch)
    copy = staged_copy(store)
    assert copy.parent == scratch
    assert copy.read_bytes() == store.read_bytes()
    assert "already" in stage(store, scratch)


def test_a_copy_of_another_store_is_not_used(store, scratch, tmp_path):
    stage(store, scratch)
    other = make_store(tmp_path / "other.h5", n_subjects=1, n_volumes=8, seed=4)
    assert staged_copy(other) == other


def test_nothing_is_copied_unless_asked(store, scratch, monkeypatch):
    stage(store, scratch)
    monkeypatch.delenv(SCRATCH_VARIABLE)
    assert staged_copy(store) == store


def test_without_space_the_shared_store_is_read(store, scratch, monkeypatch):
    full = namedtuple("usage", "total used free")(100, 90, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "GiB free" in stage(store, scratch)
    assert staged_copy(store) == store


def test_a_copy_that_differs_is_not_used(store, scratch, monkeypatch):
    blocks = staging._read

    def misread(path):
        for block in blocks(path):
            yield block
            # What reached the disk is not what was sent.
            (part,) = scratch.glob(".*.part")
            part.write_bytes(b"x" * 10)

    monkeypatch.setattr(staging, "_read", misread)
    assert "differs from what was sent" in stage(store, scratch)
    assert staged_copy(store) == store
    assert list(scratch.iterdir()) == []
