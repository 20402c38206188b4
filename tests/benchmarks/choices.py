"""What the choices of size, patch front end and loss gain and lose in quality and speed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tests.benchmarks.measuring import Measurement
from tests.benchmarks.trainings import ROOT

STORE = Path("runs/demo/store.h5")
SEEDS = (0, 1)
SPLIT = "split.fractions=[0.4,0.3,0.3]"  # three subjects to validate on


@dataclass(frozen=True)
class Choice:
    """Overrides of configs/train/demo/cae.yaml and configs/train/demo/transformer.yaml."""

    name: str
    cae: tuple[str, ...] = ()
    transformer: tuple[str, ...] = ()


CHOICES = (
    Choice("as in the demo: d_model 64, CAE 8-16-32, patch 4x4x3, latent loss"),
    Choice("Transformer half as wide (d_model 32)", transformer=("model.d_model=32",)),
    Choice("Transformer four times as wide (d_model 256)", transformer=("model.d_model=256",)),
    Choice("CAE three times as wide (24-48-96)", cae=("model.widths=[24,48,96]",)),
    Choice("CAE token a quarter (16 numbers)", cae=("model.d_token=16",)),
    Choice("CAE with a smaller patch (2x2x2)", cae=("model.patch=[2,2,2]",)),
    Choice("volume loss in place of latent loss", transformer=("optimization.loss=volume",)),
)


@dataclass(frozen=True)
class Outcome:
    """Means over seeds."""

    r_region: float
    cae_volumes_per_s: float
    transformer_volumes_per_s: float


def quality() -> Measurement:
    """Validation score and speed of each choice on the store of `make demo`."""
    if not STORE.exists():
        sys.exit(f"{STORE} is missing: run `make demo` first")
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        outcomes = {choice: _train(choice, Path(name)) for choice in CHOICES}
    best = max(outcome.r_region for outcome in outcomes.values())
    return Measurement(
        value=outcomes[CHOICES[0]].r_region / best,
        unit="of the best choice's r",
        against="other sizes, patch and loss; simulated subjects, r over regions in 3 unseen ones",
        notes=[
            f"{'mean r':>7} {'CAE':>8} {'Transformer':>12}  ({len(SEEDS)} seeds; volumes/s, with "
            "all that an epoch does)",
            *(
                f"{outcome.r_region:7.3f} {outcome.cae_volumes_per_s:8.0f} "
                f"{outcome.transformer_volumes_per_s:12.0f}  {choice.name}"
                for choice, outcome in outcomes.items()
            ),
        ],
    )


def _train(choice: Choice, folder: Path) -> Outcome:
    runs = []
    for seed in SEEDS:
        cae = _run("cae", folder / f"cae-{CHOICES.index(choice)}-{seed}", seed, *choice.cae)
        tokenizer = f"tokenizer={cae}"
        output = folder / f"transformer-{CHOICES.index(choice)}-{seed}"
        transformer = _run("transformer", output, seed, tokenizer, *choice.transformer)
        runs.append((_best_r(transformer), _speed(cae, 1), _speed(transformer, 32)))
    return Outcome(*(fmean(values) for values in zip(*runs, strict=True)))


def _run(model: str, output: Path, seed: int, *overrides: str) -> Path:
    command = [
        *(sys.executable, "launch/train.py", f"configs/train/demo/{model}.yaml"),
        *(f"output={output}", f"optimization.seed={seed}", "threads=1", SPLIT, *overrides),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return output


def _log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _best_r(run: Path) -> float:
    return max(row.get("validation/r_region", -1.0) for row in _log(run))


def _speed(run: Path, window: int) -> float:
    key = "throughput/windows_per_s"
    return window * max(row[key] for row in _log(run) if key in row)
