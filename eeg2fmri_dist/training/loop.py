"""The training loop and nothing else: one for CAE, Transformer and U-Net."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from eeg2fmri_dist.config.train import OptimisationConfig
from eeg2fmri_dist.data import WindowData
from eeg2fmri_dist.errors import DivergedError, StoppedError
from eeg2fmri_dist.ranks import Ranks
from eeg2fmri_dist.sampler import BatchSampler, Share, shares
from eeg2fmri_dist.training.checkpoint import Checkpoints
from eeg2fmri_dist.training.monitor import Monitor
from eeg2fmri_dist.training.objectives import Batch, Objective
from eeg2fmri_dist.training.preemption import StopRequest
from eeg2fmri_dist.training.validation import Validator

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@dataclass
class Progress:
    """Where a training stands, beside weights, optimiser and sampler.

    Attributes
    ----------
    step : int
        Optimiser steps done.
    validated_epoch : int
        Epochs whose end was validated.
    best_score : float
        Highest selection score so far.
    loss_sum, loss_count : float
        Training losses of the running epoch.
    """

    step: int = 0
    validated_epoch: int = 0
    best_score: float = -math.inf
    loss_sum: float = 0.0
    loss_count: int = 0


@dataclass
class Trainer:
    """One training, assembled by `training.run`.

    Attributes
    ----------
    engine : DeepSpeedEngine
        Around the objective, with optimiser and schedule.
    data : WindowData
        Training windows.
    write_weights : callable
        (path, epoch, step) -> file that evaluation and prediction load.
    """

    engine: DeepSpeedEngine
    objective: Objective
    data: WindowData
    sampler: BatchSampler
    validator: Validator
    checkpoints: Checkpoints
    monitor: Monitor
    stop: StopRequest
    optimisation: OptimisationConfig
    ranks: Ranks
    device: torch.device
    write_weights: Callable[[Path, int, int], None]
    progress: Progress = field(default_factory=Progress)

    def train(self) -> Progress:
        """Train to the last epoch, from the newest checkpoint if there is one.

        Raises
        ------
        StoppedError
            If a signal asked to stop; a checkpoint was saved.
        DivergedError
            If the loss is not finite; no checkpoint holds it.
        """
        self.windows = self.data.training_windows()
        self.resume()
        self.monitor.start(self.progress.step)
        while not self.finished:
            self.train_step()
            if self.epoch_complete:
                self.validate()
                self.save_if_due()
            self.stop_if_asked()
        return self.progress

    @property
    def finished(self) -> bool:
        """True after the last epoch."""
        return self.sampler.epoch >= self.optimisation.epochs and not self.epoch_complete

    @property
    def epoch_complete(self) -> bool:
        """True from an epoch's last step until it is validated."""
        return self.sampler.epoch > self.progress.validated_epoch

    def resume(self) -> None:
        """Go back to where the newest checkpoint was saved."""
        state = self.checkpoints.load_newest(self.engine)
        if state is not None:
            self.sampler.load_state_dict(state["sampler"])
            self.progress = Progress(**state["progress"])

    def train_step(self) -> None:
        """One optimiser step over all ranks and micro-batches."""
        self.engine.train()
        loss = 0.0
        batch_indices = self.sampler.next_batch()
        micro_batches = self.optimisation.gradient_accumulation
        own = shares(batch_indices, self.ranks.rank, self.ranks.world_size, micro_batches)
        for share in own:
            batch = self.read(share)
            micro_loss = self.engine(batch, share.weight)
            self.engine.backward(micro_loss)
            self.engine.step()
            loss += micro_loss.item() / micro_batches
        self.progress.step += 1
        self.note_loss(self.mean_over_ranks(loss))

    def read(self, share: Share) -> Batch:
        """Read one micro-batch of this rank onto the device."""
        began = time.perf_counter()
        windows = [self.windows[index] for index in share.indices]
        batch = self.data.batch(windows, self.objective.fields)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        self.monitor.note_data(len(windows), time.perf_counter() - began)
        return batch

    def note_loss(self, loss: float) -> None:
        """Log a step's loss; refuse to go on where it is not finite."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss became {loss} at step {self.progress.step}",
                remedy="lower optimisation.learning_rate or set optimisation.gradient_clipping; "
                "the last checkpoint is kept",
            )
        self.progress.loss_sum += loss
        self.progress.loss_count += 1
        grad_norm = self.engine.get_global_grad_norm()
        self.monitor.training_step(
            self.progress.step,
            loss,
            self.engine.get_lr()[0],
            math.nan if grad_norm is None else float(grad_norm),
        )

    def validate(self) -> None:
        """End an epoch: score validation subjects where due, log, remember the best."""
        progress, epoch = self.progress, self.sampler.epoch
        scores = {"train/loss_epoch": progress.loss_sum / max(1, progress.loss_count)}
        self.is_best = False
        if epoch % self.optimisation.validate_every == 0 or epoch == self.optimisation.epochs:
            self.engine.eval()
            validation = self.validator.score(self.objective)
            score = self.validator.selection_score(validation)
            self.is_best = score > progress.best_score
            progress.best_score = max(score, progress.best_score)
            scores |= validation
            self.monitor.slices(progress.step, *self.validator.example)
        progress.validated_epoch = epoch
        progress.loss_sum, progress.loss_count = 0.0, 0
        self.monitor.epoch(epoch, progress.step, scores)

    def save_if_due(self) -> None:
        """Save at the end of an epoch, by schedule and whenever it is the best."""
        epoch = self.sampler.epoch
        due = epoch % self.optimisation.checkpoint_every == 0
        if due or self.is_best or epoch == self.optimisation.epochs:
            self.save(is_best=self.is_best)

    def save(self, *, is_best: bool) -> None:
        """Save everything that the next step depends on."""
        state = {"sampler": self.sampler.state_dict(), "progress": vars(self.progress)}
        epoch, step = self.sampler.epoch, self.progress.step
        self.checkpoints.save(
            self.engine,
            step,
            state,
            lambda path: self.write_weights(path, epoch, step),
            is_best=is_best,
        )
        self.saved_step = step

    def stop_if_asked(self) -> None:
        """Save and leave if any rank was asked to stop."""
        if not self.stop.agreed() or self.finished:
            return
        if getattr(self, "saved_step", None) != self.progress.step:
            self.save(is_best=False)
        raise StoppedError(
            f"stopped by {self.stop.name} after step {self.progress.step}; a checkpoint was saved",
            remedy="the same command continues",
        )

    def mean_over_ranks(self, value: float) -> float:
        """Average a number over ranks; not finite if it is so on any rank."""
        if self.ranks.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.item() / self.ranks.world_size
