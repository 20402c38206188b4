"""One training: assemble data, model and engine; train; leave a finished run folder."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from eeg2fmri_dist.config.model import EnsembleConfig, RidgeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.sampler import BatchSampler
from eeg2fmri_dist.data.staging import staged_copy
from eeg2fmri_dist.data.windows import DeviceWindows, WindowData
from eeg2fmri_dist.errors import DivergedError, LaunchError
from eeg2fmri_dist.files.run_folder import (
    check_folder,
    claim_run,
    mark_finished,
    read_skipped,
    write_skipped,
)
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
from eeg2fmri_dist.training.distributed.engine import (
    leave_process_group,
    start_engine,
    start_process_group,
)
from eeg2fmri_dist.training.distributed.heartbeat import Heartbeat, is_lost_peer
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks, discover_ranks
from eeg2fmri_dist.training.distributed.rendezvous import stopped_before_start
from eeg2fmri_dist.training.fitting.eeg_scale import settle_eeg_scale
from eeg2fmri_dist.training.fitting.ensemble import combine_members
from eeg2fmri_dist.training.fitting.ridge import fit_in_closed_form
from eeg2fmri_dist.training.flops import count_step_flops, measure_peak_flops
from eeg2fmri_dist.training.loop import Progress, Trainer
from eeg2fmri_dist.training.model import make_card, make_model, store_regions, training_objective
from eeg2fmri_dist.training.monitoring.monitor import Monitor
from eeg2fmri_dist.training.monitoring.watchdog import Watchdog
from eeg2fmri_dist.training.validation import Validator

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

logger = logging.getLogger(__name__)


_Make = Callable[[TrainConfig, Ranks, torch.device, StopRequest, Heartbeat], Progress]
# What makes models that no optimiser trains.
_WITHOUT_STEPS: dict[type, _Make] = {
    RidgeConfig: fit_in_closed_form,
    EnsembleConfig: combine_members,
}


def train(config: TrainConfig, stop: StopRequest) -> None:
    """Train to the end, or continue a run that was cut off (called on every rank).

    Parameters
    ----------
    config : TrainConfig
        What to train.
    stop : StopRequest
        Listening for signals since the process started.

    Raises
    ------
    SuiteError
        With the exit codes of `eeg2fmri_dist.errors`.
    """
    ranks = discover_ranks(config.world_size)
    if not ranks.is_first:
        logging.getLogger("eeg2fmri_dist").setLevel(logging.WARNING)
    _use_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // ranks.local_size))
    try:
        device = start_process_group(ranks, stop)
    except StopAskedError:
        raise stopped_before_start(stop) from None
    heartbeat = Heartbeat(ranks, config.watchdog.stall_timeout_s)
    try:
        make = _WITHOUT_STEPS.get(type(config.model), _train_with_rewinds)
        progress = make(config, ranks, device, stop, heartbeat)
        if ranks.is_first:
            mark_finished(config.output, {"steps": progress.step, "best": progress.best_score})
            logger.info("%s is done after %d steps", config.output, progress.step)
    except StopAskedError:
        raise stopped_before_start(stop) from None
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise LaunchError(
            f"the other ranks cannot be reached; what each was doing:\n{heartbeat.look_around()}",
            remedy="look for the reason in the output of the rank that ended first; the same "
            "command continues from the last checkpoint",
        ) from error
    finally:
        heartbeat.close()
        leave_process_group()


def _use_threads(count: int) -> None:
    """Limit torch, and numpy, whose scores would else take every core from the other ranks."""
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")


def _train_with_rewinds(
    config: TrainConfig,
    ranks: Ranks,
    device: torch.device,
    stop: StopRequest,
    heartbeat: Heartbeat,
) -> Progress:
    """Train; where a batch breaks the training, go back and skip it, as often as allowed."""
    while True:
        skipped = read_skipped(config.output)
        trainer = assemble(config, ranks, device, stop, heartbeat)
        try:
            return trainer.train()
        except DivergedError as error:
            if len(skipped) >= config.watchdog.rewinds:
                raise
            logger.warning("%s", error.what)
            logger.warning("going back to the last checkpoint, without that batch")
            if ranks.is_first:
                write_skipped(config.output, skipped | {trainer.position})
            wait_for_all()
        finally:
            trainer.monitor.close()


def assemble(
    config: TrainConfig,
    ranks: Ranks,
    device: torch.device,
    stop: StopRequest,
    heartbeat: Heartbeat,
) -> Trainer:
    """Build everything that a training is made of, as the newest checkpoint left it."""
    asked = config
    store = Store(staged_copy(config.store))
    if ranks.is_first:
        check_folder(asked, fingerprint_inputs(asked))
    config = settle_eeg_scale(asked)
    data = open_data(config, store, ranks)
    stop.agree()
    optimisation = config.optimisation
    torch.manual_seed(optimisation.seed)
    model, tokeniser = make_model(config, store, data.train, data.validation, ranks, device)
    stop.agree()
    heartbeat.note_progress()
    objective = training_objective(config, model, store.layout.mask).to(device)
    scored_copy = copy.deepcopy(objective)
    n_windows = len(data.train.training_windows())
    sampler = BatchSampler(n_windows, optimisation.batch_size, optimisation.seed)
    total_steps = sampler.batches_per_epoch * optimisation.epochs
    checkpoints = _open_checkpoints(config, ranks)
    saved = checkpoints.open_newest()
    if saved is not None:
        saved.load_weights(objective)
    monitor = _make_monitor(config, objective, data.train, ranks, device, total_steps)
    engine = start_engine(objective, config, ranks.world_size, total_steps)
    if ranks.is_first:  # not before: what cannot be started must leave the folder free
        claim_run(asked, fingerprint_inputs(asked))
    scored = ScoredModel(engine, scored_copy, optimisation.ema_decay)
    progress = Progress() if saved is None else _go_on(saved, engine, scored, sampler)
    source = _make_source(config, data.train, objective, device)
    _announce(config, model, data.train, source, total_steps, ranks)
    return Trainer(
        config=config,
        engine=engine,
        objective=objective,
        scored=scored,
        data=data.train,
        source=source,
        sampler=sampler,
        validator=_make_validator(config, store, data, ranks, device),
        checkpoints=checkpoints,
        monitor=monitor,
        watchdog=Watchdog(config.watchdog),
        heartbeat=heartbeat,
        stop=stop,
        ranks=ranks,
        device=device,
        write_model=_model_writer(make_card(config, store, data.split, tokeniser), data, store),
        skipped_batches=frozenset(read_skipped(config.output)),
        progress=progress,
    )


def _open_checkpoints(config: TrainConfig, ranks: Ranks) -> Checkpoints:
    settings = config.checkpoints
    return Checkpoints(config.output / "checkpoints", settings.keep, settings.asynchronous, ranks)


def _go_on(
    saved: SavedCheckpoint, engine: DeepSpeedEngine, scored: ScoredModel, sampler: BatchSampler
) -> Progress:
    """Bring engine, average and sampler to where a checkpoint left them."""
    saved.load_training(engine, scored)
    sampler.load_state_dict(saved.state["sampler"])
    return Progress(**saved.state["progress"])


def _make_validator(
    config: TrainConfig, store: Store, data: SplitData, ranks: Ranks, device: torch.device
) -> Validator:
    regions = store_regions(store)
    return Validator(data.train, data.validation, regions, config.optimisation, ranks, device)


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
    ranks: Ranks,
    device: torch.device,
    total_steps: int,
) -> Monitor:
    """Count the operations of a window (before the engine wraps the model); measure the peak."""
    window = data.batch(data.training_windows()[:1], objective.fields)
    return Monitor(
        config.output,
        config.monitor,
        ranks,
        device,
        total_steps=total_steps,
        total_epochs=config.optimisation.epochs,
        flops_per_window=count_step_flops(objective, window).total,
        peak=measure_peak_flops(device, compute_dtype(config.engine)),
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
