"""A trace of a few training steps, for TensorBoard's profiler plug-in and for Perfetto."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.config.monitor import ProfileConfig

logger = logging.getLogger(__name__)

_SUFFIX = ".pt.trace.json"  # what TensorBoard's plug-in looks for


class StepProfiler:
    """Profiles the steps of a window; costs nothing before and after it.

    The step before the window warms the profiler up. A training that is resumed inside the window
    profiles what is left of it; one that is resumed after it profiles nothing.

    Parameters
    ----------
    folder : Path
        ``profile`` of the run folder; made when there is something to write.
    window : ProfileConfig or None
        Which steps of which rank; None = none.
    rank : int
        This process.
    device : torch.device
        Where the steps are computed.
    """

    def __init__(self, folder: Path, window: ProfileConfig | None, rank: int, device: torch.device):
        self._folder, self._rank, self._device = folder, rank, device
        self._window = window if window is not None and window.rank == rank else None
        self._profile: Any = None

    def start(self, step: int) -> None:
        """Begin a training of which `step` steps are done."""
        self._open_if_due(step)

    def step(self, step: int) -> None:
        """Note that optimizer step number `step` is done."""
        if self._profile is None:
            self._open_if_due(step)
            return
        self._profile.step()
        assert self._window is not None
        if step >= self._last(self._window):
            self.close()

    def close(self) -> None:
        """End; the trace of a window that is not over is written as far as it goes."""
        if self._profile is not None:
            profile, self._profile = self._profile, None
            profile.stop()

    def _open_if_due(self, done: int) -> None:
        window = self._window
        if window is None or not window.start_step - 2 <= done < self._last(window):
            return
        self._first = max(window.start_step, done + 1)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        active = self._last(window) - self._first + 1
        self._profile = torch.profiler.profile(
            activities=activities,
            schedule=_schedule(warmup=self._first - done - 1, active=active),
            on_trace_ready=self._write,
            record_shapes=True,
        )
        self._profile.start()

    def _write(self, profile: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"rank-{self._rank}.step-{self._first}{_SUFFIX}"
        part = path.with_name(f".{path.name}.part")
        profile.export_chrome_trace(str(part))
        os.replace(part, path)
        logger.info("profile of steps from %d on: %s", self._first, path)

    @staticmethod
    def _last(window: ProfileConfig) -> int:
        return window.start_step + window.steps - 1


def _schedule(warmup: int, active: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there may be no step left to warm up
        return torch.profiler.schedule(wait=0, warmup=warmup, active=active, repeat=1)
