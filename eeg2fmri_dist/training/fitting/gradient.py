"""Training by gradient steps: data, model and engine assembled, and trained by the loop."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.sampler import BatchSampler
from eeg2fmri_dist.data.staging import staged_copy
from eeg2fmri_dist.data.windows import DeviceWindows, WindowData
from eeg2fmri_dist.errors import DivergedError
from eeg2fmri_dist.files.run_folder import check_folder, claim_run, read_skipped, write_skipped
from eeg2fmri_dist.inference.model_file import ModelCard, save_model
from eeg2fmri_dist.inference.objectives import Objective
from eeg2fmri_dist.models.build import count_parameters
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.averaging import ScoredModel
from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs
from eeg2fmri_dist.training.batches.split_data import SplitData, open_data
from eeg2fmri_dist.training.checkpoint import Checkpoints, SavedCheckpoint
from eeg2fmri_dist.training.distributed.collectives import wait_for_all
from eeg2fmri_dist.training.distributed.deepspeed_config import compute_dtype, effective_precision
from eeg2fmri_dist.training.distributed.engine import start_engine
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.fitting.eeg_scale import settle_eeg_scale
from eeg2fmri_dist.training.flops import count_step_flops, measure_peak_flops
from eeg2fmri_dist.training.initial_model import make_card, make_model, training_objective
from eeg2fmri_dist.training.loop import Archive, Feed, Learner, Observers, Trainer
from eeg2fmri_dist.training.monitoring.monitor import Monitor
from eeg2fmri_dist.training.monitoring.watchdog import Watchdog
from eeg2fmri_dist.training.progress import Progress
from eeg2fmri_dist.training.store_facts import store_regions
from eeg2fmri_dist.training.validation import Validator

logger = logging.getLogger(__name__)


def fit(config: TrainConfig, session: Session) -> Progress:
    """Train; where a batch breaks the training, go back and skip it, as often as allowed.

    Parameters
    ----------
    config : TrainConfig
        Of a model that an optimizer trains.
    session : Session
        This process among the others.

    Raises
    ------
    StopAskedError, StoppedError
        If a rank was asked to stop: before the training stood, and after; only then it was saved.
    DivergedError
        If a step broke the training once more than it may go back.
    """
    while True:
        skipped = read_skipped(config.output)
        trainer = assemble(config, session)
        try:
            return trainer.train()
        except DivergedError as error:
            if len(skipped) >= config.watchdog.rewinds:
                raise
            logger.warning("%s", error.what)
            logger.warning("going back to the last checkpoint, without that batch")
            if session.ranks.is_first:
                write_skipped(config.output, skipped | {trainer.position})
            wait_for_all()
        finally:
            trainer.observers.monitor.close()


def assemble(config: TrainConfig, session: Session) -> Trainer:
    """Build everything that a training is made of, as the newest checkpoint left it."""
    asked, ranks = config, session.ranks
    store = Store(staged_copy(config.store))
    if ranks.is_first:
        check_folder(asked, fingerprint_inputs(asked))
    config = settle_eeg_scale(asked)
    data = open_data(config, store, ranks)
    session.stop.agree()
    torch.manual_seed(config.optimization.seed)
    model, tokenizer = make_model(config, store, data, session)
    session.stop.agree()
    session.heartbeat.note_progress()
    objective = training_objective(config, model, store.layout.mask).to(session.device)
    scored_copy = copy.deepcopy(objective)
    sampler = _make_sampler(config, data.train)
    total_steps = sampler.batches_per_epoch * config.optimization.epochs
    checkpoints = _open_checkpoints(config, ranks)
    saved = checkpoints.open_newest()
    if saved is not None:
        saved.load_weights(objective)
    monitor = _make_monitor(config, objective, data.train, session, total_steps)
    engine = start_engine(objective, config, ranks.world_size, total_steps)
    if ranks.is_first:  # not before: what cannot be started must leave the folder free
        claim_run(asked, fingerprint_inputs(asked))
    scored = ScoredModel(engine, scored_copy, config.optimization.ema_decay)
    learner = Learner(engine, objective, scored)
    progress = Progress() if saved is None else _go_on(saved, learner, sampler)
    source = _make_source(config, data.train, objective, session.device)
    _announce(config, model, data.train, source, total_steps, ranks)
    card = make_card(config, store, data.split, tokenizer)
    validator = _make_validator(config, store, data, session)
    return Trainer(
        config,
        session,
        learner,
        Feed(data.train, source, sampler, frozenset(read_skipped(config.output))),
        Archive(checkpoints, _model_writer(card, data, store)),
        Observers(monitor, Watchdog(config.watchdog), validator),
        progress,
    )


def _make_sampler(config: TrainConfig, data: WindowData) -> BatchSampler:
    optimization = config.optimization
    return BatchSampler(len(data.training_windows()), optimization.batch_size, optimization.seed)


def _open_checkpoints(config: TrainConfig, ranks: Ranks) -> Checkpoints:
    settings = config.checkpoints
    return Checkpoints(config.output / "checkpoints", settings.keep, settings.asynchronous, ranks)


def _go_on(saved: SavedCheckpoint, learner: Learner, sampler: BatchSampler) -> Progress:
    """Bring engine, average and sampler to where a checkpoint left them."""
    saved.load_training(learner.engine, learner.scored)
    sampler.load_state_dict(saved.state["sampler"])
    return Progress(**saved.state["progress"])


def _make_validator(
    config: TrainConfig, store: Store, data: SplitData, session: Session
) -> Validator:
    regions = store_regions(store)
    return Validator(data.train, data.validation, regions, config.optimization, session)


def _model_writer(
    card: ModelCard, data: SplitData, store: Store
) -> Callable[[Path, dict[str, Tensor], int, int], None]:
    """What writes the model as evaluation and prediction load it."""

    def write(path: Path, weights: dict[str, Tensor], epoch: int, step: int) -> None:
        save_model(
            path, weights, replace(card, epoch=epoch, step=step), data.scaling, store.layout.mask
        )

    return write


def _make_monitor(
    config: TrainConfig,
    objective: Objective,
    data: WindowData,
    session: Session,
    total_steps: int,
) -> Monitor:
    """Count the operations of a window (before the engine wraps the model); measure the peak."""
    window = data.batch(data.training_windows()[:1], objective.fields)
    return Monitor(
        config.output,
        config.monitor,
        session.ranks,
        session.device,
        total_steps=total_steps,
        total_epochs=config.optimization.epochs,
        flops_per_window=count_step_flops(objective, window).total,
        peak=measure_peak_flops(session.device, compute_dtype(config.engine)),
    )


def _make_source(
    config: TrainConfig, data: WindowData, objective: Objective, device: torch.device
) -> WindowData | DeviceWindows:
    """Copy the training data to the device where that is asked for, or fits."""
    cache = config.data.cache
    if cache == "device" or (cache == "auto" and DeviceWindows.fits(data, device)):
        return DeviceWindows(data, objective.fields, device)
    return data


def _announce(
    config: TrainConfig,
    model: torch.nn.Module,
    data: WindowData,
    source: WindowData | DeviceWindows,
    total_steps: int,
    ranks: Ranks,
) -> None:
    place = "in RAM" if data.cached else "mapped from the store"
    logger.info(
        "%s, %s recipe: %s parameters, %d windows, %d steps, %s, %d rank(s) by %s, volumes %s",
        config.model.name,
        config.recipe,
        f"{count_parameters(model):,}",
        len(data.training_windows()),
        total_steps,
        effective_precision(config.engine),
        ranks.world_size,
        ranks.launcher,
        "on the device" if isinstance(source, DeviceWindows) else place,
    )
