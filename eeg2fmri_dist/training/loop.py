"""The training loop and nothing else: one for CAE, Transformer and U-Net."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from eeg2fmri_dist.config.model import TransformerConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.sampler import BatchSampler, Share, shares
from eeg2fmri_dist.data.windows import DeviceWindows, WindowData
from eeg2fmri_dist.errors import DivergedError, StoppedError
from eeg2fmri_dist.inference.objectives import Batch, Objective
from eeg2fmri_dist.training.averaging import ScoredModel
from eeg2fmri_dist.training.batches.read_ahead import ReadAhead
from eeg2fmri_dist.training.checkpoint import Checkpoints
from eeg2fmri_dist.training.distributed.collectives import share_with_all
from eeg2fmri_dist.training.distributed.engine import (
    loss_scaler,
    take_step,
    trained_parameters,
    zero_moments,
)
from eeg2fmri_dist.training.distributed.heartbeat import Heartbeat
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.sharding import own_part
from eeg2fmri_dist.training.monitoring.monitor import Monitor
from eeg2fmri_dist.training.monitoring.watchdog import Watchdog
from eeg2fmri_dist.training.validation import ValidationScores, Validator, is_clear_gain

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
        Selection score of the checkpoint that is kept as the best.
    highest_score : float
        Highest selection score so far, kept or not (see `Trainer.leaves_start`).
    stale_validations : int
        Validations since the highest.
    start_by_subject : dict of str to float
        The selection score of each validation subject before the first step; empty where a model
        starts at nothing worth keeping.
    loss_sum, loss_count : float
        Training losses of the running epoch.
    """

    step: int = 0
    validated_epoch: int = 0
    best_score: float = -math.inf
    highest_score: float = -math.inf
    stale_validations: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    start_by_subject: dict[str, float] = field(default_factory=dict)


@dataclass
class Trainer:
    """One training, assembled by `training.run`.

    Attributes
    ----------
    engine : DeepSpeedEngine
        Around the objective, with optimiser and schedule.
    objective : Objective
        What the engine wraps.
    scored : ScoredModel
        Copy that is validated and saved.
    data : WindowData
        Training windows.
    source : WindowData or DeviceWindows
        What batches are read from.
    sampler : BatchSampler
        Their order, and where in it the training stands.
    write_model : callable
        (path, state dict, epoch, step) -> file that evaluation and prediction load.
    skipped_batches : frozenset of tuple
        (epoch, windows consumed) at which a batch begins that broke the training before.
    """

    config: TrainConfig
    engine: DeepSpeedEngine
    objective: Objective
    scored: ScoredModel
    data: WindowData
    source: WindowData | DeviceWindows
    sampler: BatchSampler
    validator: Validator
    checkpoints: Checkpoints
    monitor: Monitor
    watchdog: Watchdog
    heartbeat: Heartbeat
    stop: StopRequest
    ranks: Ranks
    device: torch.device
    write_model: Callable[[Path, dict[str, Tensor], int, int], None]
    skipped_batches: frozenset[tuple[int, int]] = frozenset()
    progress: Progress = field(default_factory=Progress)

    def train(self) -> Progress:
        """Train to the last epoch, or to where early stopping ends it.

        Raises
        ------
        StoppedError
            If a signal asked to stop; a checkpoint was saved.
        DivergedError
            If a step broke the training; no checkpoint holds it.
        """
        self.start()
        with self.reader:
            try:
                self.stop.agree()
                if self.starts_at_ridge:
                    self.score_start()
                while not self.finished:
                    if self.epoch_complete:
                        self.end_epoch()
                    else:
                        self.train_step()
            except StopAskedError:
                self.save_and_leave()
        self.checkpoints.commit()
        return self.progress

    def start(self) -> None:
        """Begin where the loaded state says."""
        self.windows = self.data.training_windows()
        self.reader = ReadAhead(self.source, self.windows, self.objective.fields)
        self.saved_step = self.progress.step
        self.engine.train()
        self.monitor.start(self.progress.step)

    @property
    def starts_at_ridge(self) -> bool:
        """True before the first step of a model that starts at a prediction worth keeping."""
        model = self.config.model
        at_ridge = isinstance(model, TransformerConfig) and model.skip_from is not None
        return at_ridge and self.progress.step == 0 and self.progress.best_score == -math.inf

    @property
    def has_checkpoint(self) -> bool:
        """True from the first step, or from a start that was worth keeping."""
        return self.progress.step > 0 or bool(self.progress.start_by_subject)

    def score_start(self) -> None:
        """Validate and save the model as it starts: the best until training clearly betters it."""
        scores = self.validate()
        self.note_score(scores)
        self.progress.start_by_subject = scores.selection_by_subject
        self.monitor.epoch(0, 0, scores.means)
        zero_moments(self.engine)  # a checkpoint holds them
        self.save(is_best=True)

    @property
    def finished(self) -> bool:
        """True after the last epoch, or when scores have stopped rising."""
        patience = self.config.optimisation.early_stopping
        given_up = patience is not None and self.progress.stale_validations >= patience
        last = self.sampler.epoch >= self.config.optimisation.epochs
        return (last or given_up) and not self.epoch_complete

    @property
    def epoch_complete(self) -> bool:
        """True from an epoch's last step until it is validated."""
        return self.sampler.epoch > self.progress.validated_epoch

    def train_step(self) -> None:
        """One optimiser step over all ranks and micro-batches."""
        self.position = self.sampler.epoch, self.sampler.consumed
        self.batch_indices = self.sampler.next_batch()
        if self.position in self.skipped_batches:
            return
        self.seed_randomness()
        loss = self.forward_and_backward()
        self.heartbeat.at(self.progress.step, "taking the optimiser's step")
        norm = take_step(self.engine, self.config.optimisation.gradient_clipping)
        self.progress.step += 1
        self.scored.after_step(self.progress.step)
        self.agree_on_step(loss, norm)
        self.save_within_epoch()

    def seed_randomness(self) -> None:
        """Let a step's dropout follow from seed, step and rank, so that a resume repeats it."""
        key = (self.config.optimisation.seed, self.progress.step, self.ranks.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))

    def forward_and_backward(self) -> float:
        """Accumulate the gradient of this rank's micro-batches; return its mean loss."""
        loss = 0.0
        micro_batches = self.config.engine.gradient_accumulation
        own = self.own_shares(self.batch_indices)
        for number, share in enumerate(own):
            self.heartbeat.at(self.progress.step, "reading a batch")
            batch = self.read(share)
            self.reader.prepare(self.share_after(own, number))
            self.heartbeat.at(self.progress.step, "computing the gradient")
            micro_loss = self.engine(batch, share.weight)
            self.engine.backward(micro_loss)
            loss += micro_loss.item() / micro_batches
            if number + 1 < micro_batches:
                self.engine.step()  # counts the micro-batch; only the last one changes weights
        return loss

    def own_shares(self, batch: np.ndarray) -> list[Share]:
        """Return this rank's part of a batch, one share per micro-batch."""
        micro_batches = self.config.engine.gradient_accumulation
        return shares(batch, self.ranks.rank, self.ranks.world_size, micro_batches)

    def share_after(self, own: list[Share], number: int) -> Share | None:
        """Return what is read next; None at an epoch's end, where validation reads, too."""
        if number + 1 < len(own):
            return own[number + 1]
        return None if self.epoch_complete else self.own_shares(self.sampler.peek_batch())[0]

    def read(self, share: Share) -> Batch:
        """Bring one micro-batch of this rank onto the device, as soon as it has been read."""
        began = time.perf_counter()
        batch = self.reader.take(share)
        self.watchdog.check_batch(share.indices, batch)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        self.monitor.note_data(len(share.indices), time.perf_counter() - began)
        return batch

    def agree_on_step(self, loss: float, norm: float) -> None:
        """Share with all ranks what each saw of a step; log it, or end a broken training."""
        told = share_with_all(
            [loss, self.weights_finite(), self.stop.received, self.checkpoints.has_written]
        )
        losses, finite, signals, written = told.T
        try:
            self.watchdog.check_step(
                self.progress.step,
                losses,
                finite > 0,
                norm,
                skipped=not self.engine.was_step_applied(),
                loss_scaling=loss_scaler(self.engine) is not None,
            )
        except DivergedError as error:
            raise self.with_batch(error) from None
        self.progress.loss_sum += losses.mean()
        self.progress.loss_count += 1
        self.monitor.training_step(
            self.progress.step, losses.mean(), self.engine.get_lr()[0], norm, own_loss=loss
        )
        self.checkpoints.commit_when(written.all())
        self.stop.note_agreed(int(signals.max()))

    def weights_finite(self) -> bool:
        """True if every weight that this rank holds is finite."""
        held = [own_part(parameter) for _, parameter in trained_parameters(self.engine)]
        parts = [part for part in held if part.numel()]
        return not parts or bool(torch.stack(torch._foreach_norm(parts, math.inf)).isfinite().all())

    def with_batch(self, error: DivergedError) -> DivergedError:
        """Add the batch of the step to an error."""
        windows = self.data.describe_windows([self.windows[i] for i in self.batch_indices])
        return DivergedError(
            f"{error.what}; its batch: windows {self.batch_indices.tolist()} ({windows})",
            remedy=error.remedy,
        )

    def end_epoch(self) -> None:
        """Score validation subjects where due, log, remember the best, save."""
        epoch, every = self.sampler.epoch, self.config.optimisation.validate_every
        scores = {"train/loss_epoch": self.progress.loss_sum / max(1, self.progress.loss_count)}
        is_best = False
        if epoch % every == 0 or epoch == self.config.optimisation.epochs:
            validation = self.validate()
            is_best = self.note_score(validation)
            scores |= validation.means
        self.progress.validated_epoch = epoch
        self.progress.loss_sum, self.progress.loss_count = 0.0, 0
        self.monitor.epoch(epoch, self.progress.step, scores)
        if self.finished:
            self.monitor.hparams(self.config.model_dump(mode="json"), scores)
        if is_best or epoch % self.config.checkpoints.every_epochs == 0 or self.finished:
            self.save(is_best=is_best)
        self.stop.agree()

    def validate(self) -> ValidationScores:
        """Score the model as it would be saved."""
        self.heartbeat.at(self.progress.step, "validating")
        scores = self.validator.score(self.scored.current(), self.stop, self.heartbeat)
        self.monitor.pictures(self.progress.step, self.validator.example)
        return scores

    def note_score(self, scores: ValidationScores) -> bool:
        """Compare with the scores so far; return whether this model is to be kept as the best."""
        progress, score = self.progress, scores.selection
        rises = score > progress.highest_score
        progress.stale_validations = 0 if rises else progress.stale_validations + 1
        progress.highest_score = max(score, progress.highest_score)
        is_best = score > progress.best_score and self.leaves_start(scores)
        if is_best:
            progress.best_score = score
        return is_best

    def leaves_start(self, scores: ValidationScores) -> bool:
        """True unless the model's start was worth keeping and the gain over it is not clear."""
        start, margin = self.progress.start_by_subject, self.config.optimisation.start_margin
        return not start or is_clear_gain(scores.selection_by_subject, start, margin)

    def save_within_epoch(self) -> None:
        """Save between the ends of epochs, where that is asked for."""
        every = self.config.checkpoints.every_steps
        if every is not None and self.progress.step % every == 0 and not self.epoch_complete:
            self.save(is_best=False)

    def save(self, *, is_best: bool) -> None:
        """Save everything that the next step depends on."""
        self.heartbeat.at(self.progress.step, "saving a checkpoint")
        self.monitor.flush()
        epoch, step = self.sampler.epoch, self.progress.step
        state = {
            "step": step,
            "sampler": self.sampler.state_dict(),
            "progress": dict(vars(self.progress)),
        }
        self.checkpoints.save(
            self.engine,
            self.scored,
            state,
            lambda path, weights: self.write_model(path, weights, epoch, step),
            is_best=is_best,
        )
        self.saved_step = step

    def save_and_leave(self) -> None:
        """Save unless that was done at this step, then raise `StoppedError`."""
        if self.saved_step != self.progress.step:
            self.save(is_best=False)
        self.checkpoints.commit()
        saved = "a checkpoint was saved" if self.has_checkpoint else "there was nothing to save yet"
        raise StoppedError(
            f"stopped by {self.stop.name} after step {self.progress.step}; {saved}",
            remedy="the same command continues",
        )
