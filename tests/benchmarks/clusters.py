"""Step time and memory that a cluster would need, computed from what one machine measured."""

from __future__ import annotations

import torch

from eeg2fmri_dist.models.build import count_parameters
from tests.benchmarks.measuring import Measurement, seconds
from tests.benchmarks.trainings import default_config, make_noddi_objective, random_batch

WORLD_SIZES = (1, 8, 64, 512)
BANDWIDTH_GB_S = 12.5  # 100 Gbit/s per device, stated, not measured
LATENCY_US = 10.0  # of one message, stated
BYTES_PER_NUMBER = 4  # gradients are reduced in fp32
WINDOWS_PER_DEVICE = 2


def prediction() -> Measurement:
    """Weak scaling of the default CAE: the same windows per device, ring all-reduce, no overlap."""
    torch.set_num_threads(1)
    config = default_config("cae", "data.window=16")
    objective = make_noddi_objective(config)
    batch = random_batch(objective, config, WINDOWS_PER_DEVICE)

    def step() -> None:
        objective.zero_grad()
        objective(batch, 1.0).backward()

    step()
    compute_s = min(seconds(step) for _ in range(5))
    parameters = count_parameters(objective)
    rows = [_row(world_size, compute_s, parameters) for world_size in WORLD_SIZES]
    efficiency = compute_s / (compute_s + _reduce_s(WORLD_SIZES[-1], parameters))
    return Measurement(
        value=efficiency,
        unit="of linear scaling",
        against=f"{WORLD_SIZES[-1]} devices, predicted",
        notes=[
            f"measured: {compute_s * 1e3:.0f} ms of compute per step and device (one core, "
            f"{WINDOWS_PER_DEVICE} windows of 16 TRs); {parameters:,} parameters",
            f"assumed: {BANDWIDTH_GB_S} GB/s and {LATENCY_US:.0f} us per message, ring all-reduce "
            "that does not overlap with compute",
            f"{'devices':>8} {'step ms':>8} {'all-reduce ms':>14} {'ZeRO 0 MiB':>11} "
            f"{'ZeRO 2 MiB':>11} {'ZeRO 3 MiB':>11}",
            *rows,
        ],
    )


def _row(world_size: int, compute_s: float, parameters: int) -> str:
    reduce_s = _reduce_s(world_size, parameters)
    mib = parameters * BYTES_PER_NUMBER / 2**20
    stage0, stage2, stage3 = 4 * mib, mib + 3 * mib / world_size, 4 * mib / world_size
    return (
        f"{world_size:>8} {1e3 * (compute_s + reduce_s):>8.1f} {1e3 * reduce_s:>14.2f} "
        f"{stage0:>11.1f} {stage2:>11.1f} {stage3:>11.1f}"
    )


def _reduce_s(world_size: int, parameters: int) -> float:
    """Time of a ring all-reduce: 2 (n - 1) messages of 1/n of the gradient each."""
    messages = 2 * (world_size - 1)
    message_bytes = parameters * BYTES_PER_NUMBER / world_size
    return messages * (message_bytes / (BANDWIDTH_GB_S * 1e9) + LATENCY_US * 1e-6)
