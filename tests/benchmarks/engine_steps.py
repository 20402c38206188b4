"""Time of a training step by the engine against hand-written PyTorch."""

from __future__ import annotations

import json
import os
import sys

from tests.benchmarks.measuring import Measurement, Pair, quartiles
from tests.benchmarks.trainings import ROOT
from tests.helpers.rank_processes import run_ranks

HAND_WRITTEN = "hand-written PyTorch loop (autocast, fused Adam, data in RAM)"
DDP = "DistributedDataParallel on the same 2 ranks"


def zero0_on_one_rank() -> Measurement:
    """Engine on one rank against a plain loop, CAE and Transformer; the worse of both."""
    return _worse_of_both(1, stage=0, against=HAND_WRITTEN, target="<= 1.03")


def zero1_on_two_ranks() -> Measurement:
    """ZeRO 1 on two ranks against DDP."""
    return _worse_of_both(2, stage=1, against=DDP, target="<= 1.15")


def zero2_on_two_ranks() -> Measurement:
    """ZeRO 2 on two ranks against DDP."""
    return _worse_of_both(2, stage=2, against=DDP, target="<= 1.15")


def two_ranks_against_one() -> Measurement:
    """Windows per second of two ranks over those of one, one thread each (CAE)."""
    rates = {1: [], 2: []}
    for _ in range(3):
        for world_size in (1, 2):
            times = _run(world_size, stage=0, model="cae").ours_s
            rates[world_size].append(1 / min(times))
    gains = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    return Measurement(
        value=sorted(gains)[1],
        unit="times the throughput",
        against="one rank, one thread each",
        target=">= 1.7",
        spread=quartiles(gains),
        notes=["same batch of 2 windows of 32 TRs per step over all ranks"],
    )


def options() -> Measurement:
    """Engine with torch.compile and with channels-last, each against a plain eager loop."""
    ratios, notes = {}, []
    for option in ("compile", "channels_last"):
        for model in ("cae", "transformer"):
            pair = _run(1, 0, model, f"engine.{option}=true")
            measured = pair.measurement(HAND_WRITTEN, "")
            ratios[f"{option}, {model}"] = measured.value
            notes.append(f"{option}, {model}: {measured.value:.3f}, {measured.notes[0]}")
    best = min(ratios, key=lambda name: ratios[name])
    return Measurement(
        value=ratios[best],
        unit=f"ratio ({best})",
        against=HAND_WRITTEN,
        notes=[*notes, "one thread, one rank"],
    )


def _worse_of_both(world_size: int, stage: int, against: str, target: str) -> Measurement:
    pairs = {model: _run(world_size, stage, model) for model in ("cae", "transformer")}
    found = {model: pair.measurement(against, target) for model, pair in pairs.items()}
    worst = max(found, key=lambda model: found[model].value)
    notes = [
        f"{model}: {measured.value:.3f}, {measured.notes[0]}" for model, measured in found.items()
    ]
    return Measurement(
        value=found[worst].value,
        unit=f"ratio ({worst})",
        against=against,
        target=target,
        spread=found[worst].spread,
        notes=[*notes, "one thread per rank"],
    )


def _run(world_size: int, stage: int, model: str, *overrides: str) -> Pair:
    """Time steps on real ranks, engine and plain in turn, in the same processes."""
    os.environ["PYTHONPATH"] = str(ROOT)
    script = ["tests/benchmarks/step_times.py", model, str(stage), *overrides]
    output = run_ranks(script, world_size)
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return Pair(**json.loads(line.removeprefix("RESULT ")))


if __name__ == "__main__":
    sys.exit("run by python -m tests.benchmarks")
