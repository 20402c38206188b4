"""What a person sees of a run: TensorBoard, log.jsonl, a progress bar or plain lines."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


class Monitor:
    """Writes a run's numbers on the first rank; does nothing on the others.

    Parameters
    ----------
    folder : Path
        Run folder.
    total_steps, total_epochs : int
        Of the whole training.
    is_first : bool
        Whether this rank writes.
    """

    def __init__(self, folder: Path, total_steps: int, total_epochs: int, *, is_first: bool):
        self._folder, self._active = folder, is_first
        self._total_steps, self._total_epochs = total_steps, total_epochs
        self._events: Any = None
        self._progress: Any = None
        self._since = time.perf_counter()
        self._windows = 0
        self._waited_s = 0.0
        self._steps_here = 0
        self._started = time.perf_counter()

    def start(self, step: int) -> None:
        """Open the files; entries after `step`, left by a run that was cut off, are dropped."""
        if not self._active:
            return
        from torch.utils.tensorboard import SummaryWriter

        _drop_entries_after(self._log, step)
        self._events = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)
        self._progress = _open_progress(self._total_steps, step)
        self._started = self._since = time.perf_counter()

    def note_data(self, windows: int, waited_s: float) -> None:
        """Count windows read and the time a step waited for them."""
        self._windows += windows
        self._waited_s += waited_s

    def training_step(self, step: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """Write the numbers of one optimiser step."""
        self._steps_here += 1
        if not self._active:
            return
        self._events.add_scalar("train/loss", loss, step)
        self._events.add_scalar("train/learning_rate", learning_rate, step)
        if np.isfinite(grad_norm):
            self._events.add_scalar("train/gradient_norm", grad_norm, step)
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=f"loss {loss:.4f}")

    def epoch(self, epoch: int, step: int, scores: dict[str, float]) -> None:
        """Write the scores of an epoch (training means, validation) and the throughput."""
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        scores = scores | {
            "throughput/windows_per_s": self._windows / elapsed,
            "throughput/data_wait_fraction": self._waited_s / elapsed,
        }
        self._windows, self._waited_s, self._since = 0, 0.0, now
        if not self._active:
            return
        for name, value in scores.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()
        record = {"epoch": epoch, "step": step, **{k: float(v) for k, v in scores.items()}}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        logger.info("%s", self._line(epoch, step, scores))

    def slices(self, step: int, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Show the middle axial slice of a true and a predicted volume, (x, y, z) each."""
        if not self._active:
            return
        middle = truth.shape[2] // 2
        pair = np.stack([volume[:, :, middle].T[::-1] for volume in (truth, predicted)])
        low, high = np.percentile(pair[0], [1, 99])
        image = np.clip((pair - low) / max(high - low, 1e-9), 0, 1)
        self._events.add_image(
            "slices/true_then_predicted", np.hstack(list(image))[None], step, dataformats="CHW"
        )

    def close(self) -> None:
        """Close files and progress bar."""
        if self._events is not None:
            self._events.close()
        if self._progress is not None:
            self._progress.stop()

    @property
    def _log(self) -> Path:
        return self._folder / "log.jsonl"

    @property
    def _task(self) -> Any:
        return self._progress.task_ids[0]

    def _line(self, epoch: int, step: int, scores: dict[str, float]) -> str:
        per_step = (time.perf_counter() - self._started) / max(1, self._steps_here)
        left = datetime.timedelta(seconds=round(per_step * (self._total_steps - step)))
        shown = {
            "train/loss": "loss",
            "validation/loss": "validation loss",
            "validation/r_region": "validation r",
            "throughput/windows_per_s": "windows/s",
        }
        numbers = "  ".join(f"{text} {scores[k]:.3g}" for k, text in shown.items() if k in scores)
        return f"epoch {epoch}/{self._total_epochs}  step {step}  {numbers}  {left} left"


def read_log(run: Path) -> list[dict[str, float]]:
    """Return the epochs of a run folder's log, oldest first."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue  # the last line of a run that was cut off
    return records


def _drop_entries_after(log: Path, step: int) -> None:
    from eeg2fmri_dist.files import write_text

    if not log.exists():
        return
    kept = [record for record in read_log(log.parent) if record["step"] <= step]
    write_text(log, "".join(json.dumps(record) + "\n" for record in kept))


def _open_progress(total_steps: int, step: int) -> Any:
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(console=Console(stderr=True), transient=True)
    progress.add_task("training", total=total_steps, completed=step)
    progress.start()
    return progress
