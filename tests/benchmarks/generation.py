"""Generation of a whole recording with a key-value cache against recomputation."""

from __future__ import annotations

import torch

from tests.benchmarks.measuring import Measurement, seconds, time_in_turn
from tests.benchmarks.trainings import (
    NUM_CHANNELS,
    NUM_FREQUENCIES,
    default_config,
    make_noddi_objective,
)

VOLUMES = 295
RECORDINGS_AT_ONCE = 8


def cached_against_recomputed() -> Measurement:
    """Tokens of 295 volumes from EEG alone, one recording, one thread."""
    torch.set_num_threads(1)
    config = default_config("transformer", "data.window=295")
    model = make_noddi_objective(config).eval().model.eeg_to_tokens
    eeg = torch.randn(1, config.data.context + VOLUMES, NUM_CHANNELS, NUM_FREQUENCIES)
    pair = time_in_turn(
        lambda: model.generate_uncached(eeg, VOLUMES), lambda: model.generate(eeg, VOLUMES), 3
    )
    difference = float(
        (model.generate_uncached(eeg, VOLUMES) - model.generate(eeg, VOLUMES)).abs().max()
    )
    several = eeg.expand(RECORDINGS_AT_ONCE, -1, -1, -1).contiguous()
    together = seconds(lambda: model.generate(several, VOLUMES))
    alone = min(pair.theirs_s)
    first, last = _time_per_step(model, eeg)
    measured = pair.measurement("recomputation of all volumes at each step", ">= 8")
    return Measurement(
        value=measured.value,
        unit="times faster",
        against=measured.against,
        target=measured.target,
        spread=measured.spread,
        notes=[
            f"cached {alone:.2f} s, recomputed {min(pair.ours_s):.1f} s for {VOLUMES} volumes",
            f"largest difference of the outputs {difference:.1e}",
            f"time per step: {first * 1e3:.2f} ms over the first 50, {last * 1e3:.2f} ms over the "
            "last 50",
            f"{RECORDINGS_AT_ONCE} recordings together: {together:.2f} s, "
            f"{RECORDINGS_AT_ONCE * alone / together:.1f} times as fast as one by one",
        ],
    )


def _time_per_step(model: torch.nn.Module, eeg: torch.Tensor) -> tuple[float, float]:
    """Seconds per generated volume over the first and the last 50 of the recording."""

    def generate(volumes: int) -> float:
        part = eeg[:, : model.context + volumes]
        return min(seconds(lambda: model.generate(part, volumes)) for _ in range(3))

    return generate(50) / 50, (generate(VOLUMES) - generate(VOLUMES - 50)) / 50
