"""Run benchmarks and print a table: python -m tests.benchmarks [NAME ...]; see `make bench`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    choices,
    clusters,
    data_waiting,
    engine_steps,
    generation,
    layers,
    predicting,
    resuming,
    scaling,
    subjects,
    sweeping,
    throughput,
)
from tests.benchmarks.measuring import Measurement

BENCHMARKS: dict[str, Callable[[], Measurement]] = {
    "engine-zero0-1-rank": engine_steps.zero0_on_one_rank,
    "engine-zero1-2-ranks": engine_steps.zero1_on_two_ranks,
    "engine-zero2-2-ranks": engine_steps.zero2_on_two_ranks,
    "engine-options": engine_steps.options,
    "two-ranks-against-one": engine_steps.two_ranks_against_one,
    "data-wait-ram": data_waiting.from_ram,
    "data-wait-mapped": data_waiting.from_mapped_store,
    "cae-throughput": throughput.cae,
    "transformer-volume-throughput": throughput.transformer_volume_loss,
    "transformer-latent-throughput": throughput.transformer_latent_loss,
    "unet-throughput": throughput.unet,
    "cae-layers": layers.cae,
    "transformer-layers": layers.transformer,
    "generation-cached": generation.cached_against_recomputed,
    "predict-against-real-time": predicting.against_real_time,
    "resume-first-step": resuming.time_to_first_step,
    "checkpoint-bytes": resuming.bytes_per_checkpoint,
    "sweep-local": sweeping.against_trials_by_hand,
    "choices": choices.quality,
    "cluster-prediction": clusters.prediction,
    "preprocess-subject": subjects.cpu_seconds,
    "preprocess-memory": subjects.peak_memory,
    "preprocess-against-chain": subjects.against_chain,
    "preprocess-against-literal": subjects.against_literal,
    "preprocess-prediction": subjects.prediction,
    "preprocess-two-workers": scaling.two_workers,
    "dask-overhead": scaling.scheduler,
    "merge-against-cp": scaling.merge_against_cp,
}
OUTPUT = Path("runs/bench/bench.json")


def main() -> int:
    """Run the chosen benchmarks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    chosen = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    print(f"{machine()}\n\n{row('what', 'value', 'unit', 'target', '', 'spread', 'against')}")
    for name in chosen:
        measured = BENCHMARKS[name]()
        print(describe(name, measured), flush=True)
        record(name, measured)
    print(f"\nwritten to {OUTPUT}")
    return 0


def describe(name: str, measured: Measurement) -> str:
    """Return a line of the table and the notes below it."""
    spread = "" if measured.spread is None else "{:.3g}-{:.3g}".format(*measured.spread)
    line = row(
        name,
        f"{measured.value:.3g}",
        measured.unit,
        measured.target,
        measured.verdict,
        spread,
        measured.against,
    )
    return "\n".join([line, *(f"    {note}" for note in measured.notes)])


def row(*cells: str) -> str:
    """Return one line of the table."""
    widths = (30, 9, 24, 9, 7, 13, 0)
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


def record(name: str, measured: Measurement) -> None:
    """Add a result to the JSON file; results of other benchmarks stay."""
    results = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results[name] = dataclasses.asdict(measured) | {"machine": machine(), "time": now}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


def machine() -> str:
    """Describe where this runs."""
    import torch

    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores of {model}, {device}, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
