"""What a sweep costs beside running its trials by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.benchmarks.measuring import Measurement
from tests.benchmarks.trainings import ROOT
from tests.helpers.stores import make_store

RATES = [1e-4, 3e-4, 1e-3, 3e-3]
TINY = {
    "model.widths": [8, 16],
    "model.d_token": 8,
    "optimization.epochs": 3,
    "optimization.batch_size": 40,
    "threads": 1,
}


def against_trials_by_hand() -> Measurement:
    """Four short trainings as local trials, two at a time, against four commands in a row."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
        by_hand_s = _seconds([_training(folder, rate) for rate in RATES])
        _, alone_s = _sweep(folder, parallel=1)
        first_job_s, sweep_s = _sweep(folder, parallel=2)
    return Measurement(
        value=by_hand_s / sweep_s,
        unit="of the trials per hour",
        against="the same trainings by hand, one after the other",
        notes=[
            f"{len(RATES)} trials of one thread: {by_hand_s:.1f} s by hand, {sweep_s:.1f} s in a "
            f"sweep of two at a time, {alone_s:.1f} s in one of one at a time: "
            f"{(alone_s - by_hand_s) / len(RATES):.1f} s of overhead per trial",
            f"{first_job_s:.1f} s from the command to the first job",
        ],
    )


def _training(folder: Path, rate: float) -> list[str]:
    return [
        "launch/train.py",
        "configs/train/cae.yaml",
        f"store={folder / 'store.h5'}",
        f"output={folder / 'by-hand' / str(rate)}",
        f"optimization.learning_rate={rate}",
        *(f"{key}={value}" for key, value in TINY.items()),
    ]


def _sweep(folder: Path, parallel: int) -> tuple[float, float]:
    """Run a sweep; return seconds to its first job, and to its end."""
    output = folder / f"sweep-{parallel}"
    config = {
        "output": str(output),
        "base": "configs/train/cae.yaml",
        "overrides": TINY | {"store": str(folder / "store.h5")},
        "search": {"optimization.learning_rate": {"choices": RATES}},
        "sampler": {"name": "grid"},
        "budget": {"trials": len(RATES), "parallel": parallel},
        "cluster": "local",
    }
    path = folder / f"sweep-{parallel}.yaml"
    path.write_text(yaml.safe_dump(config))
    began = time.perf_counter()
    process = _start(["launch/sweep.py", str(path)])
    while not any((output / "jobs").glob("*")):
        time.sleep(0.02)
    first_job_s = time.perf_counter() - began
    assert process.wait() == 0
    return first_job_s, time.perf_counter() - began


def _seconds(commands: list[list[str]]) -> float:
    began = time.perf_counter()
    for command in commands:
        assert _start(command).wait() == 0
    return time.perf_counter() - began


def _start(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
