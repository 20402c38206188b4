"""The next batch is read while the present one is computed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from eeg2fmri_dist.data.sampler import Share
from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.training.batches.read_ahead import ReadAhead

WINDOWS = [f"window {number}" for number in range(10)]
FIELDS = ("bold",)


class Source:
    """Windows are their own numbers; tells which thread read what."""

    def __init__(self):
        self.reads = []
        self.done = threading.Event()

    def batch(self, windows, fields):
        assert fields == FIELDS
        self.reads.append((threading.current_thread(), windows))
        if "window 9" in windows:
            raise StoreError("volume 9 cannot be read")
        self.done.set()
        return {"bold": torch.tensor([int(window.split()[1]) for window in windows])}


def share(*indices):
    return Share(np.array(indices), 1.0)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def reader(source):
    with ReadAhead(source, WINDOWS, FIELDS) as reader:
        yield reader


def test_a_prepared_batch_is_read_by_another_thread_before_it_is_taken(reader, source):
    reader.prepare(share(3, 1))
    assert source.done.wait(10)
    assert reader.take(share(3, 1))["bold"].tolist() == [3, 1]
    ((thread, windows),) = source.reads
    assert thread is not threading.current_thread()
    assert windows == ["window 3", "window 1"]


def test_a_batch_is_read_without_being_prepared(reader):
    assert reader.take(share(4))["bold"].tolist() == [4]


def test_another_batch_than_the_prepared_one_is_read_anew(reader):
    reader.prepare(share(3, 1))
    assert reader.take(share(5, 6))["bold"].tolist() == [5, 6]


def test_nothing_is_prepared_where_the_next_batch_is_unknown(reader, source):
    reader.prepare(None)
    assert not source.reads
    assert reader.take(share(2))["bold"].tolist() == [2]


def test_a_store_that_cannot_be_read_is_noticed_when_its_windows_are_needed(reader):
    reader.prepare(share(9))
    with pytest.raises(StoreError, match="volume 9"):
        reader.take(share(9))


def test_its_thread_ends_with_the_training(source):
    with ReadAhead(source, WINDOWS, FIELDS) as reader:
        reader.prepare(share(1))
        reader.take(share(1))
    thread = source.reads[0][0]
    thread.join(10)
    assert not thread.is_alive()
