"""The training loop and nothing else: one for CAE, Transformer and U-Net."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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
from eeg2fmri_dist.training.distributed.preemption import StopAskedError
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.distributed.sharding import own_part
from eeg2fmri_dist.training.monitoring.monitor import Monitor
from eeg2fmri_dist.training.monitoring.watchdog import Watchdog
from eeg2fmri_dist.training.progress import Progress
from eeg2fmri_dist.training.validation import ValidationScores, Validator

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class Learner:
    """What a training computes with.

    Attributes
    ----------
    engine : DeepSpeedEngine
        Around the objective, with optimizer and schedule.
    objective : Objective
        What the engine wraps.
    scored : ScoredModel
        Copy that is validated and saved.
    """

    engine: DeepSpeedEngine
    objective: Objective
    scored: ScoredModel


@dataclass(frozen=True)
class Feed:
    """What a training reads.

    Attributes
    ----------
    data : WindowData
        Training windows.
    source : WindowData or DeviceWindows
        What batches are read from.
    sampler : BatchSampler
        Their order, and where in it the training stands.
    skipped_batches : frozenset of tuple
        (epoch, windows consumed) at which a batch begins that broke the training before.
    """

    data: WindowData
    source: WindowData | DeviceWindows
    sampler: BatchSampler
    skipped_batches: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Archive:
    """What a training saves to.

    Attributes
    ----------
    checkpoints : Checkpoints
        Of the run folder.
    write_model : callable
        (path, state dict, epoch, step) -> file that evaluation and prediction load.
    """

    checkpoints: Checkpoints
    write_model: Callable[[Path, dict[str, Tensor], int, int], None]


@dataclass(frozen=True)
class Observers:
    """What a training reports to.

    Attributes
    ----------
    monitor : Monitor
        Writes the run's numbers.
    watchdog : Watchdog
        Ends a training whose numbers are broken.
    validator : Validator
        Scores the model.
    """

    monitor: Monitor
    watchdog: Watchdog
    validator: Validator


@dataclass
class Trainer:
    """One training, assembled by `training.fitting.gradient`."""

    config: TrainConfig
    session: Session
    learner: Learner
    feed: Feed
    archive: Archive
    observers: Observers
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
                self.session.stop.agree()
                if self.starts_at_ridge:
                    self.score_start()
                while not self.finished:
                    if self.epoch_complete:
                        self.end_epoch()
                    else:
                        self.train_step()
            except StopAskedError:
                self.save_and_leave()
        self.archive.checkpoints.commit()
        return self.progress

    def start(self) -> None:
        """Begin where the loaded state says."""
        self.windows = self.feed.data.training_windows()
        self.reader = ReadAhead(self.feed.source, self.windows, self.learner.objective.fields)
        self.saved_step = self.progress.step
        self.learner.engine.train()
        self.observers.monitor.start(self.progress.step)

    @property
    def starts_at_ridge(self) -> bool:
        """True before the first step of a model that starts at a prediction worth keeping."""
        model = self.config.model
        at_ridge = isinstance(model, TransformerConfig) and model.skip_from is not None
        return at_ridge and self.progress.step == 0 and self.progress.best_score == -math.inf

    def score_start(self) -> None:
        """Validate and save the model as it starts: the best until training clearly betters it."""
        scores = self.validate()
        self.progress.note_score(scores, self.config.optimization.min_improvement_se)
        self.progress.start_by_subject = scores.selection_by_subject
        self.observers.monitor.epoch(0, 0, scores.means)
        zero_moments(self.learner.engine)  # a checkpoint holds them
        self.save(is_best=True)

    @property
    def finished(self) -> bool:
        """True after the last epoch, or when scores have stopped rising."""
        patience = self.config.optimization.patience
        given_up = patience is not None and self.progress.stale_validations >= patience
        last = self.feed.sampler.epoch >= self.config.optimization.epochs
        return (last or given_up) and not self.epoch_complete

    @property
    def epoch_complete(self) -> bool:
        """True from an epoch's last step until it is validated."""
        return self.feed.sampler.epoch > self.progress.validated_epoch

    def train_step(self) -> None:
        """One optimizer step over all ranks and micro-batches."""
        self.take_next_batch()
        if self.position in self.feed.skipped_batches:
            return
        self.seed_randomness()
        loss = self.forward_and_backward()
        norm = self.update_weights()
        self.agree_on_step(loss, norm)
        self.save_within_epoch()

    def take_next_batch(self) -> None:
        """Go on to the next batch; remember where it begins."""
        sampler = self.feed.sampler
        self.position = sampler.epoch, sampler.consumed
        self.batch_indices = sampler.next_batch()

    def seed_randomness(self) -> None:
        """Let a step's dropout follow from seed, step and rank, so that a resume repeats it."""
        key = (self.config.optimization.seed, self.progress.step, self.session.ranks.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))

    def forward_and_backward(self) -> float:
        """Accumulate the gradient of this rank's micro-batches; return its mean loss."""
        loss, engine = 0.0, self.learner.engine
        micro_batches = self.config.engine.gradient_accumulation
        own = self.own_shares(self.batch_indices)
        for number, share in enumerate(own):
            self.session.heartbeat.at(self.progress.step, "reading a batch")
            batch = self.read(share)
            self.reader.prepare(self.share_after(own, number))
            self.session.heartbeat.at(self.progress.step, "computing the gradient")
            micro_loss = engine(batch, share.weight)
            engine.backward(micro_loss)
            loss += micro_loss.item() / micro_batches
            if number + 1 < micro_batches:
                engine.step()  # counts the micro-batch; only the last one changes weights
        return loss

    def update_weights(self) -> float:
        """Take the optimizer's step, the moving average after it; return the gradient's norm."""
        self.session.heartbeat.at(self.progress.step, "taking the optimizer's step")
        norm = take_step(self.learner.engine, self.config.optimization.gradient_clipping)
        self.progress.step += 1
        self.learner.scored.after_step(self.progress.step)
        return norm

    def own_shares(self, batch: np.ndarray) -> list[Share]:
        """Return this rank's part of a batch, one share per micro-batch."""
        micro_batches = self.config.engine.gradient_accumulation
        return shares(batch, self.session.ranks.rank, self.session.ranks.world_size, micro_batches)

    def share_after(self, own: list[Share], number: int) -> Share | None:
        """Return what is read next; None at an epoch's end, where validation reads, too."""
        if number + 1 < len(own):
            return own[number + 1]
        return None if self.epoch_complete else self.own_shares(self.feed.sampler.peek_batch())[0]

    def read(self, share: Share) -> Batch:
        """Bring one micro-batch of this rank onto the device, as soon as it has been read."""
        began = time.perf_counter()
        batch = self.reader.take(share)
        self.observers.watchdog.check_batch(share.indices, batch)
        batch = {name: tensor.to(self.session.device) for name, tensor in batch.items()}
        self.observers.monitor.note_data(len(share.indices), time.perf_counter() - began)
        return batch

    def agree_on_step(self, loss: float, norm: float) -> None:
        """Share with all ranks what each saw of a step; log it, or end a broken training."""
        checkpoints, stop = self.archive.checkpoints, self.session.stop
        told = share_with_all([loss, self.weights_finite(), stop.received, checkpoints.has_written])
        losses, finite, signals, written = told.T
        self.check_step(losses, finite > 0, norm)
        self.progress.note_loss(losses.mean())
        rate = self.learner.engine.get_lr()[0]
        self.observers.monitor.training_step(
            self.progress.step, losses.mean(), rate, norm, own_loss=loss
        )
        checkpoints.commit_when(written.all())
        stop.note_agreed(int(signals.max()))

    def check_step(self, losses: Sequence[float], finite: Sequence[bool], norm: float) -> None:
        """End a training that the step broke; all ranks see the same numbers, one per rank."""
        engine = self.learner.engine
        try:
            self.observers.watchdog.check_step(
                self.progress.step,
                losses,
                finite,
                norm,
                skipped=not engine.was_step_applied(),
                loss_scaling=loss_scaler(engine) is not None,
            )
        except DivergedError as error:
            raise self.with_batch(error) from None

    def weights_finite(self) -> bool:
        """True if every weight that this rank holds is finite."""
        held = [own_part(parameter) for _, parameter in trained_parameters(self.learner.engine)]
        parts = [part for part in held if part.numel()]
        return not parts or bool(torch.stack(torch._foreach_norm(parts, math.inf)).isfinite().all())

    def with_batch(self, error: DivergedError) -> DivergedError:
        """Add the batch of the step to an error."""
        windows = self.feed.data.describe_windows([self.windows[i] for i in self.batch_indices])
        return DivergedError(
            f"{error.what}; its batch: windows {self.batch_indices.tolist()} ({windows})",
            remedy=error.remedy,
        )

    def end_epoch(self) -> None:
        """Score validation subjects where due, log, remember the best, save."""
        epoch = self.feed.sampler.epoch
        scores, is_best = self.score_epoch(epoch)
        self.progress.begin_epoch_after(epoch)
        self.report_epoch(epoch, scores)
        if is_best or self.finished or epoch % self.config.checkpoints.every_epochs == 0:
            self.save(is_best=is_best)
        self.session.stop.agree()

    def score_epoch(self, epoch: int) -> tuple[dict[str, float], bool]:
        """Return the scores of an epoch, and whether its model is the best so far."""
        optimization = self.config.optimization
        scores = {"train/loss_epoch": self.progress.mean_loss}
        if epoch % optimization.validate_every and epoch != optimization.epochs:
            return scores, False
        validation = self.validate()
        is_best = self.progress.note_score(validation, optimization.min_improvement_se)
        return scores | validation.means, is_best

    def report_epoch(self, epoch: int, scores: dict[str, float]) -> None:
        """Log the scores of an epoch; after the last, the run's line among other runs."""
        monitor = self.observers.monitor
        monitor.epoch(epoch, self.progress.step, scores)
        if self.finished:
            monitor.hparams(self.config.model_dump(mode="json"), scores)

    def validate(self) -> ValidationScores:
        """Score the model as it would be saved."""
        self.session.heartbeat.at(self.progress.step, "validating")
        validator = self.observers.validator
        scores = validator.score(self.learner.scored.current())
        self.observers.monitor.pictures(self.progress.step, validator.example)
        return scores

    def save_within_epoch(self) -> None:
        """Save between the ends of epochs, where that is asked for."""
        every = self.config.checkpoints.every_steps
        if every is not None and self.progress.step % every == 0 and not self.epoch_complete:
            self.save(is_best=False)

    def save(self, *, is_best: bool) -> None:
        """Save everything that the next step depends on."""
        self.session.heartbeat.at(self.progress.step, "saving a checkpoint")
        self.observers.monitor.flush()
        epoch, step = self.feed.sampler.epoch, self.progress.step
        state = {
            "step": step,
            "sampler": self.feed.sampler.state_dict(),
            "progress": dict(vars(self.progress)),
        }
        self.archive.checkpoints.save(
            self.learner.engine,
            self.learner.scored,
            state,
            lambda path, weights: self.archive.write_model(path, weights, epoch, step),
            is_best=is_best,
        )
        self.saved_step = step

    def save_and_leave(self) -> None:
        """Save unless that was done at this step, then raise `StoppedError`."""
        if self.saved_step != self.progress.step:
            self.save(is_best=False)
        self.archive.checkpoints.commit()
        saved = (
            "a checkpoint was saved"
            if self.progress.has_checkpoint
            else "there was nothing to save yet"
        )
        raise StoppedError(
            f"stopped by {self.session.stop.name} after step {self.progress.step}; {saved}",
            remedy="the same command continues",
        )
