"""Progress lines, the cost of a step, and the summary of a run."""

import logging
import time

import numpy as np
import pytest

from preprocessing.job.cost import Meter
from preprocessing.job.progress import Progress
from preprocessing.job.summary import Row, Summary


def test_each_step_is_logged_with_the_time_left(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = iter([100.0, 130.0, 160.0, 190.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with Progress({"a": 1.0, "b": 3.0, "c": 2.0, "d": 60.0}) as progress:
        progress.finished("b")
        progress.failed("d")
        progress.finished("a")
        progress.finished("c")
    # 63 of 66 were left after 30 s, that is 10.5 min; then 2 of 66 after 60 s.
    assert caplog.messages == [
        "[1/4] b done, about 10 min left",
        "[3/4] a done, about 2 s left",
        "[4/4] c done",
    ]


def test_a_meter_measures_time_and_the_peak_since_its_making():
    np.ones(40_000_000).sum()  # 320 MB, before
    meter = Meter()
    small = meter.cost()
    np.ones(20_000_000).sum()  # 160 MB
    cost = meter.cost()
    assert 100e6 < cost.peak_bytes - small.peak_bytes < 250e6
    assert cost.cpu_s > 0
    assert cost.seconds > 0
    assert cost.host


def test_the_summary_ends_with_what_all_steps_took():
    def costs(host, gib):
        return {
            "registration": {"cpu_s": 1800.0, "peak_bytes": gib * 2**30, "host": host},
            "shard": {"cpu_s": 3600.0, "peak_bytes": 2**29, "host": host},
        }

    rows = (
        Row("sub-1", "computed", costs=costs("n1", 1)),
        Row("sub-2", "computed", costs=costs("n2", 2)),
        Row("sub-3", "up to date", costs=costs("n3", 9)),
        Row("sub-4", "failed", message="shard failed"),
    )
    total = Summary("store.h5", merged=True, rows=rows).lines()[-1]
    assert total == (
        "2 computed, 1 up to date, 1 failed; 3.00 core-hours on 2 machines, "
        "at most 2.00 GiB per worker"
    )
    assert rows[1].peak_gib == pytest.approx(2.0)
