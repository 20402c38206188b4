"""A few steps of a training in memory alone, to say how long it will take."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.inference.objectives import Batch, Objective

_SECONDS_PER_STEP = 2.0
_STEPS = 4


@dataclass(frozen=True)
class Rehearsal:
    """What was measured.

    Attributes
    ----------
    windows : int
        Windows of a measured step.
    reading_s, gradient_s, update_s : float
        Seconds to read them, to compute the gradient, to update the weights (medians).
    """

    windows: int
    reading_s: float
    gradient_s: float
    update_s: float

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.reading_s + self.gradient_s + self.update_s

    def predict_step_s(self, windows: int, micro_batches: int = 1) -> float:
        """Seconds of a step of other windows: all but the update grows with them."""
        per_window = (self.reading_s + self.gradient_s) / self.windows
        return micro_batches * windows * per_window + self.update_s


def rehearse(
    objective: Objective,
    data: WindowData,
    windows: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Rehearsal:
    """Time optimizer steps of plain PyTorch (autocast, Adam); about ten seconds at most.

    Parameters
    ----------
    objective : Objective
        On `device`; its weights are changed.
    data : WindowData
        What the windows are read from.
    windows : int
        Windows of a rank's micro-batch; fewer are measured where a step takes seconds.
    device : torch.device
        Of the objective.
    autocast : torch.dtype or None
        Lower precision of matrix products and convolutions.
    """
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-5)
    objective.train()

    order = itertools.cycle(data.training_windows())

    def read(n_windows: int) -> Batch:
        batch = data.batch(list(itertools.islice(order, n_windows)), objective.fields)
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def compute(batch: Batch) -> None:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            loss = objective(batch, 1.0)
        loss.backward()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    def step(n_windows: int) -> tuple[float, float, float]:
        reading_s, batch = _timed(lambda: read(n_windows), device)
        gradient_s, _ = _timed(lambda: compute(batch), device)
        update_s, _ = _timed(update, device)
        return reading_s, gradient_s, update_s

    return _measure(step, windows)


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _measure(step: Callable[[int], tuple[float, float, float]], windows: int) -> Rehearsal:
    step(1)  # sets things up
    n_windows = max(1, min(windows, int(_SECONDS_PER_STEP / max(sum(step(1)), 1e-6))))
    if n_windows > 1:
        step(n_windows)
    medians = map(statistics.median, zip(*(step(n_windows) for _ in range(_STEPS)), strict=True))
    return Rehearsal(n_windows, *medians)


def _timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    began = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result
