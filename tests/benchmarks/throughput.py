"""Volumes that each model trains on per second and core."""

from __future__ import annotations

import statistics
import sys

import torch

from eeg2fmri_dist.models.build import count_parameters
from eeg2fmri_dist.training.distributed.deepspeed_config import effective_precision
from tests.benchmarks.measuring import Measurement, quartiles, seconds
from tests.benchmarks.trainings import default_config, make_noddi_objective, random_batch

ROUNDS = 7
PEERS = "published peers: 0.16 and 1.8"


def cae() -> Measurement:
    """CAE of configs/train/cae.yaml."""
    return _train("cae", windows=2, target=">= 60", overrides=["data.window=16"])


def transformer_volume_loss() -> Measurement:
    """Transformer whose tokens are decoded: 8 volumes per window, drawn at random."""
    return _train(
        "transformer",
        windows=2,
        target=">= 100",
        overrides=["optimization.loss=volume", "optimization.loss_volumes=8"],
    )


def transformer_latent_loss() -> Measurement:
    """Transformer on cached tokens."""
    return _train("transformer", windows=16, target=">= 1500", overrides=[])


def unet() -> Measurement:
    """U-Net of configs/train/unet.yaml."""
    return _train("unet", windows=1, target="", overrides=["data.window=16"])


def _train(model: str, windows: int, target: str, overrides: list[str]) -> Measurement:
    """Time steps of a plain loop on one thread: forward, backward, Adam."""
    torch.set_num_threads(1)
    config = default_config(model, *overrides)
    objective = make_noddi_objective(config)
    batch = random_batch(objective, config, windows)
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)
    autocast = effective_precision(config.engine) == "bf16"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = objective(batch, 1.0)
        loss.backward()
        optimizer.step()

    step()
    times = [seconds(step) for _ in range(ROUNDS)]
    volumes = windows * config.data.window
    rates = [volumes / time for time in times]
    return Measurement(
        value=statistics.median(rates),
        unit="volumes / core-second",
        against=PEERS,
        target=target,
        spread=quartiles(rates),
        notes=[
            f"{count_parameters(objective):,} trained parameters, {windows} windows of "
            f"{config.data.window} TRs, {effective_precision(config.engine)}, one thread"
        ],
    )


if __name__ == "__main__":
    sys.exit("run by python -m tests.benchmarks")
