"""Share of a training step that is spent waiting for data."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from tests.benchmarks.measuring import Measurement
from tests.benchmarks.trainings import GRID, ROOT
from tests.helpers.rank_processes import run_ranks
from tests.helpers.stores import make_store


def from_ram() -> Measurement:
    """CAE on volumes that lie in RAM."""
    return _fraction("ram", "<= 0.01")


def from_mapped_store() -> Measurement:
    """CAE on volumes that are normalized from the mapped store when read."""
    return _fraction("mapped", "<= 0.05")


def _fraction(cache: str, target: str) -> Measurement:
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        make_store(folder / "store.h5", n_subjects=4, n_volumes=60, grid=GRID)
        arguments = [
            "configs/train/cae.yaml",
            f"store={folder / 'store.h5'}",
            f"output={folder / 'run'}",
            "optimization.epochs=3",
            "optimization.validate_every=100",
            f"data.cache={cache}",
        ]
        run_ranks(["launch/train.py", *arguments], 1)
        lines = (folder / "run" / "log.jsonl").read_text().splitlines()
    fractions = [json.loads(line)["throughput/data_wait_fraction"] for line in lines][1:-1]
    return Measurement(
        value=sum(fractions) / len(fractions),
        unit="of the time of an epoch",
        against="-",
        target=target,
        notes=[f"data.cache={cache}, CAE of configs/train/cae.yaml, NODDI's grid, one thread"],
    )
