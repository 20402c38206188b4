"""What the user sees of a run: TensorBoard, logs of records, a progress bar or plain lines."""

from __future__ import annotations

import datetime
import logging
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.config.monitor import MonitorConfig
from eeg2fmri_dist.config.names.dotted import dotted
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.flops import PeakRate, flop_utilization
from eeg2fmri_dist.training.monitoring.journal import (
    append_record,
    drop_records_after,
    read_records,
)
from eeg2fmri_dist.training.monitoring.pictures import compare_slices, curve_picture, matrix_picture
from eeg2fmri_dist.training.monitoring.profiling import StepProfiler
from eeg2fmri_dist.training.validation import Example

logger = logging.getLogger(__name__)

_GIB = 2**30
_EVENT_FILES = "events.out.tfevents.*"
_LONGEST_WAIT_S = 3.0
# Metrics of the HPARAMS tab, where a run has them.
_SUMMARY_METRICS = ("loss", "psnr_db", "ssim", "r_region")


@dataclass
class _Sums:
    """What happened on this rank since some moment."""

    steps: int = 0
    loss: float = 0.0
    windows: int = 0
    waited_s: float = 0.0
    step_s: float = 0.0


class Monitor:
    """Writes a run's numbers: on the first rank for a person, on each rank a log.

    All of them continue after a cut: what a resumed training does again replaces what was written
    of it. Losses are written at each step, speed and memory at the end of each interval, which is
    every `every_steps` steps and the end of an epoch.

    Parameters
    ----------
    folder : Path
        Run folder.
    config : MonitorConfig
        Interval, profiler window.
    ranks : Ranks
        This process among the others.
    device : torch.device
        Where training computes.
    total_steps, total_epochs : int
        Of the whole training.
    flops_per_window : float
        Of one training step (`count_step_flops`); 0 = utilization is not written.
    peak : PeakRate or None
        Of this rank (`measure_peak_flops`).
    """

    def __init__(
        self,
        folder: Path,
        config: MonitorConfig,
        ranks: Ranks,
        device: torch.device,
        *,
        total_steps: int,
        total_epochs: int,
        flops_per_window: float = 0.0,
        peak: PeakRate | None = None,
    ):
        self._folder, self._config, self._ranks, self._device = folder, config, ranks, device
        self._total_steps, self._total_epochs = total_steps, total_epochs
        self._flops_per_window, self._peak = flops_per_window, peak
        self._profiler = StepProfiler(folder / "profile", config.profile, ranks.rank, device)
        self._events: Any = None
        self._progress: Any = None
        self._interval, self._epoch = _Sums(), _Sums()
        self._step_began: float | None = None
        self._first_step, self._started = 0, time.perf_counter()

    def start(self, step: int) -> None:
        """Open the files; what a run that was cut off wrote after `step` is dropped."""
        self._interval, self._epoch, self._step_began = _Sums(), _Sums(), None
        self._first_step, self._started = step, time.perf_counter()
        drop_records_after(self._rank_log(self._ranks.rank), step)
        self._profiler.start(step)
        if not self._ranks.is_first:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._drop_logs_of_missing_ranks(step)
        drop_records_after(self._log, step)
        _wait_for_later_second(self._folder)
        # Also at step 0: a run may have been cut off before its first checkpoint.
        self._events = SummaryWriter(str(self._folder), purge_step=step + 1)
        self._progress = _open_progress(self._total_steps, step)

    def note_data(self, windows: int, waited_s: float) -> None:
        """Count windows that this rank has just read, and the seconds a step waited for them."""
        if self._step_began is None:
            self._step_began = time.perf_counter() - waited_s
        for sums in (self._interval, self._epoch):
            sums.windows += windows
            sums.waited_s += waited_s

    def training_step(
        self,
        step: int,
        loss: float,
        learning_rate: float,
        grad_norm: float,
        own_loss: float | None = None,
    ) -> None:
        """Write the numbers of one optimizer step.

        Parameters
        ----------
        step : int
            Optimizer steps done.
        loss : float
            Mean over ranks.
        learning_rate, grad_norm : float
            Of the step; a norm that is not finite is not written.
        own_loss : float or None
            Loss of this rank alone; None = `loss`.
        """
        now = time.perf_counter()
        for sums in (self._interval, self._epoch):
            sums.steps += 1
            sums.loss += loss if own_loss is None else own_loss
            sums.step_s += now - (self._step_began or now)
        self._step_began = None
        self._profiler.step(step)
        if self._events is not None:
            self._write_scalars(
                step,
                {
                    "train/loss_step": loss,  # train/loss is that of a free-running validation
                    "train/learning_rate": learning_rate,
                    "train/gradient_norm": grad_norm,
                },
            )
        if self._progress is not None:
            description = f"loss {loss:.4f}"
            self._progress.update(self._task, completed=step, description=description)
        if step % self._config.every_steps == 0:
            numbers = self._end_interval(step)
            if self._ranks.is_first and self._progress is None:
                logger.info("%s", self._step_line(step, numbers))

    def epoch(self, epoch: int, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of an epoch (training means, validation) and its throughput."""
        self._end_interval(step)
        sums, self._epoch = self._epoch, _Sums()
        if self._events is None:
            return
        self._write_scalars(step, scores)
        self._events.flush()
        speed = {
            "throughput/windows_per_s": self._windows_per_s(sums),
            "throughput/data_wait_fraction": _share(sums.waited_s, sums.step_s),
        }
        record = {"epoch": epoch, "step": step} | {k: float(v) for k, v in scores.items()} | speed
        append_record(self._log, record)
        logger.info("%s", self._epoch_line(epoch, step, record))

    def pictures(self, step: int, example: Example | None) -> None:
        """Show a validated recording beside the truth: slices, regional curves, matrices."""
        if self._events is None or example is None or not self._config.pictures:
            return
        for plane, picture in compare_slices(example.true, example.predicted).items():
            self._events.add_image(f"slices/{plane}", picture[None], step, dataformats="CHW")
        series = example.true_regions, example.predicted_regions
        curves = curve_picture(*series, example.names, example.tr_s)
        self._events.add_image("regions/curves", curves, step, dataformats="HWC")
        matrices = matrix_picture(*series)
        self._events.add_image("regions/correlation", matrices, step, dataformats="HWC")

    def hparams(self, config: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Put the run into the HPARAMS tab, at its end.

        Parameters
        ----------
        config : mapping
            Resolved config, nested (``model_dump(mode="json")``).
        scores : mapping
            Scores by tag, such as ``validation/r_region``: those of the tags written before.
        """
        if self._events is None:
            return
        from torch.utils.tensorboard.summary import hparams

        metrics = {
            tag: value for tag, value in scores.items() if tag.split("/")[-1] in _SUMMARY_METRICS
        }
        for summary in hparams(_hparams_of(config), metrics):
            self._events.file_writer.add_summary(summary)
        self._events.flush()

    def flush(self) -> None:
        """Hand everything to the operating system; before a checkpoint, so that no step is lost."""
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Close files and progress bar."""
        self._profiler.close()
        if self._events is not None:
            self._events.close()
            self._events = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @property
    def _log(self) -> Path:
        return self._folder / "log.jsonl"

    def _rank_log(self, rank: int) -> Path:
        return self._folder / "logs" / f"rank-{rank}.jsonl"

    @property
    def _task(self) -> Any:
        return self._progress.task_ids[0]

    def _drop_logs_of_missing_ranks(self, step: int) -> None:
        own = {self._rank_log(rank) for rank in range(self._ranks.world_size)}
        for path in set((self._folder / "logs").glob("rank-*.jsonl")) - own:
            drop_records_after(path, step)

    def _write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            if math.isfinite(value):
                self._events.add_scalar(name, value, step)

    def _end_interval(self, step: int) -> dict[str, float]:
        """Write speed and memory of the steps since the last interval; return the numbers."""
        sums, self._interval = self._interval, _Sums()
        if not sums.steps:
            return {}
        memory = _memory_bytes(self._device)
        record = {
            "step": step,
            "steps": sums.steps,
            "loss": sums.loss / sums.steps,
            "windows": sums.windows,
            "step_s": sums.step_s / sums.steps,
            "data_wait_s": sums.waited_s / sums.steps,
            **memory,
        }
        append_record(self._rank_log(self._ranks.rank), record)
        speed = {
            "throughput/windows_per_s": self._windows_per_s(sums),
            "throughput/data_wait_fraction": _share(sums.waited_s, sums.step_s),
            "throughput/flop_utilization": self._utilization(sums),
        }
        sizes = {f"memory/{k.removesuffix('_bytes')}_gib": v / _GIB for k, v in memory.items()}
        if self._events is not None:
            self._write_scalars(step, speed | {"throughput/step_s": record["step_s"]} | sizes)
        return record | speed

    def _windows_per_s(self, sums: _Sums) -> float:
        """Of all ranks together, which have equal shares."""
        return self._ranks.world_size * sums.windows / max(sums.step_s, 1e-9)

    def _utilization(self, sums: _Sums) -> float:
        if self._peak is None or not self._flops_per_window:
            return math.nan
        return flop_utilization(self._flops_per_window * sums.windows, sums.step_s, self._peak)

    def _step_line(self, step: int, numbers: Mapping[str, float]) -> str:
        utilization = numbers["throughput/flop_utilization"]
        used = "" if math.isnan(utilization) else f"  {utilization:.1%} of peak"
        return (
            f"step {step}/{self._total_steps}  loss {numbers['loss']:.4g}  "
            f"{numbers['throughput/windows_per_s']:.3g} windows/s  "
            f"{numbers['throughput/data_wait_fraction']:.1%} waiting{used}  "
            f"{numbers['rss_bytes'] / _GIB:.2f} GiB  {self._time_left(step)} left"
        )

    def _epoch_line(self, epoch: int, step: int, scores: Mapping[str, float]) -> str:
        shown = {
            "train/loss_epoch": "loss",
            "validation/loss": "validation loss",
            "validation/psnr_db": "PSNR",
            "validation/ssim": "SSIM",
            "validation/r_region": "r",
            "validation/shift_gap": "r lost by shifting the EEG",
            "throughput/windows_per_s": "windows/s",
        }
        numbers = "  ".join(f"{text} {scores[k]:.3g}" for k, text in shown.items() if k in scores)
        done = f"epoch {epoch}/{self._total_epochs}  step {step}/{self._total_steps}"
        return f"{done}  {numbers}  {self._time_left(step)} left"

    def _time_left(self, step: int) -> datetime.timedelta:
        """Validation and checkpoints included."""
        per_step = (time.perf_counter() - self._started) / max(1, step - self._first_step)
        return datetime.timedelta(seconds=round(per_step * (self._total_steps - step)))


def read_log(run: Path) -> list[dict[str, float]]:
    """Return the epochs of a run folder's log, oldest first."""
    return read_records(run / "log.jsonl")


def _wait_for_later_second(folder: Path) -> None:
    """Readers order event files by the second in their names; a run must not precede itself."""
    stamps = [int(path.name.split(".")[3]) for path in folder.glob(_EVENT_FILES)]
    if not stamps:
        return
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while time.time() < max(stamps) + 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def _share(part: float, whole: float) -> float:
    return part / max(whole, 1e-9)


def _memory_bytes(device: torch.device) -> dict[str, int]:
    """Memory of this process now and at its highest, and that of the GPU."""
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        now = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        now = peak
    memory = {"rss_bytes": now, "rss_peak_bytes": max(now, peak)}  # the kernel counts peaks late
    if device.type == "cuda":
        memory["cuda_peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return memory


def _hparams_of(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Settings by dotted key, with values that the HPARAMS tab takes."""
    return {
        key: value if isinstance(value, bool | int | float) else str(value)
        for key, value in dotted(config).items()
    }


def _open_progress(total_steps: int, step: int) -> Any:
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=Console(stderr=True),
        transient=True,
    )
    progress.add_task("training", total=total_steps, completed=step)
    progress.start()
    return progress
