"""One training: assemble data, model and engine; train; leave a finished run folder."""

from __future__ import annotations

import copy
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.config.model import CaeConfig, PrincipalComponentsConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data import DeviceWindows, WindowData
from eeg2fmri_dist.errors import (
    CheckpointError,
    DivergedError,
    LaunchError,
    StoreError,
)
from eeg2fmri_dist.export import ModelCard, TrainedModel, load_model, save_model
from eeg2fmri_dist.models.build import DataSizes, build_model, count_parameters
from eeg2fmri_dist.models.transformer import TransformerCNN
from eeg2fmri_dist.normalise import Scaling, fit_scaling
from eeg2fmri_dist.ranks import Ranks, discover_ranks
from eeg2fmri_dist.runs import claim_run, mark_finished, read_skipped, write_skipped
from eeg2fmri_dist.sampler import BatchSampler
from eeg2fmri_dist.scores.networks import Regions
from eeg2fmri_dist.splits import PARTS, Split, make_split
from eeg2fmri_dist.staging import staged_copy
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.agreement import wait_for_all
from eeg2fmri_dist.training.checkpoint import Checkpoints
from eeg2fmri_dist.training.deepspeed_config import compute_dtype, effective_precision
from eeg2fmri_dist.training.engine import leave_process_group, start_engine, start_process_group
from eeg2fmri_dist.training.flops import count_step_flops, measure_peak_flops
from eeg2fmri_dist.training.heartbeat import Heartbeat, is_lost_peer
from eeg2fmri_dist.training.inputs import fingerprint_inputs
from eeg2fmri_dist.training.joining import stopped_before_start
from eeg2fmri_dist.training.loop import Progress, Trainer
from eeg2fmri_dist.training.manifest import resolve_weights, weights_sha256
from eeg2fmri_dist.training.monitor import Monitor
from eeg2fmri_dist.training.objectives import Objective, make_objective
from eeg2fmri_dist.training.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.tokens import TokenCache, prepare_tokens
from eeg2fmri_dist.training.validation import Validator
from eeg2fmri_dist.training.watchdog import Watchdog
from eeg2fmri_dist.training.weights import ScoredModel

logger = logging.getLogger(__name__)

_LEAK_WARNING = (
    "split.kind=by_sample puts volumes of one subject into training and test: scores will look "
    "better than the model is"
)


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
    torch.set_num_threads(
        config.threads or max(1, len(os.sched_getaffinity(0)) // ranks.local_size)
    )
    try:
        device = start_process_group(ranks, stop)
    except StopAskedError:
        raise stopped_before_start(stop) from None
    heartbeat = Heartbeat(ranks, config.watchdog.stall_timeout_s)
    try:
        progress = _train_with_rewinds(config, ranks, device, stop, heartbeat)
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
    store = Store(staged_copy(config.store))
    if ranks.is_first:
        claim_run(config, fingerprint_inputs(config))
    split = make_split(store.recordings, config.split)
    if split.leaks:
        logger.warning(_LEAK_WARNING)
    scaling = fit_scaling(store, split.train, config.data)
    _warn_of_static_target(config, scaling)
    train_data = WindowData(store, split.train, config.data, scaling, ranks.local_size)
    validation_data = WindowData(store, split.validation, config.data, scaling, ranks.local_size)
    stop.agree()
    torch.manual_seed(config.optimisation.seed)
    model, tokeniser = _make_model(config, store, train_data, validation_data, ranks, device)
    stop.agree()
    heartbeat.note_progress()
    objective = _make_objective(config, model, store).to(device)
    scored_copy = copy.deepcopy(objective)
    sampler = BatchSampler(
        len(train_data.training_windows()), config.optimisation.batch_size, config.optimisation.seed
    )
    total_steps = sampler.batches_per_epoch * config.optimisation.epochs
    checkpoints = Checkpoints(
        config.output / "checkpoints",
        config.checkpoints.keep,
        config.checkpoints.asynchronous,
        ranks,
    )
    saved = checkpoints.open_newest()
    if saved is not None:
        saved.load_weights(objective)
    monitor = _make_monitor(config, objective, train_data, ranks, device, total_steps)
    engine = start_engine(objective, config, ranks.world_size, total_steps)
    scored = ScoredModel(engine, scored_copy, config.optimisation.ema_decay)
    progress = Progress()
    if saved is not None:
        saved.load_training(engine, scored)
        sampler.load_state_dict(saved.state["sampler"])
        progress = Progress(**saved.state["progress"])
    card = make_card(config, store, split, tokeniser)
    source = _make_source(config, train_data, objective, device)
    _announce(config, model, train_data, source, total_steps, ranks)
    return Trainer(
        config=config,
        engine=engine,
        objective=objective,
        scored=scored,
        data=train_data,
        source=source,
        sampler=sampler,
        validator=Validator(
            train_data, validation_data, store_regions(store), config.optimisation, ranks, device
        ),
        checkpoints=checkpoints,
        monitor=monitor,
        watchdog=Watchdog(config.watchdog),
        heartbeat=heartbeat,
        stop=stop,
        ranks=ranks,
        device=device,
        write_model=lambda path, weights, epoch, step: save_model(
            path, weights, replace(card, epoch=epoch, step=step), scaling, store.layout.mask
        ),
        skipped_batches=frozenset(read_skipped(config.output)),
        progress=progress,
    )


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


def _make_objective(config: TrainConfig, model: torch.nn.Module, store: Store) -> Objective:
    mask = torch.from_numpy(store.layout.mask.copy())
    counted = mask if config.data.normalise == "voxelwise" else None
    return make_objective(model, counted, config.optimisation)


def store_sizes(store: Store, context: int) -> DataSizes:
    """Return what a model must know of a store."""
    return DataSizes(
        grid=store.layout.grid,
        num_channels=len(store.layout.channel_names),
        num_frequencies=len(store.layout.frequencies_hz),
        context=context,
        tr_s=store.recordings[0].tr_s,
    )


def store_regions(store: Store) -> Regions:
    """Return the regions of the store's first atlas, inside its mask."""
    if not store.layout.atlases:
        raise StoreError(
            "the store has no region labels",
            where=store.path,
            remedy="run launch/preprocess.py again: it adds them when it merges",
        )
    name, atlas = next(iter(store.layout.atlases.items()))
    return Regions.within(
        store.layout.mask, atlas.labels, atlas.names[1:], f"{name} ({atlas.source})"
    )


def make_card(
    config: TrainConfig, store: Store, split: Split, tokeniser: dict[str, Any] | None
) -> ModelCard:
    """Describe the model of a training for those who load it."""
    layout = store.layout
    return ModelCard(
        recipe=config.recipe,
        model=config.model.model_dump(mode="json"),
        tokeniser=tokeniser,
        data=config.data.model_dump(mode="json"),
        preprocessing=dict(layout.preprocessing),
        channel_names=list(layout.channel_names),
        frequencies_hz=[float(frequency) for frequency in layout.frequencies_hz],
        tr_s=store.recordings[0].tr_s,
        affine=layout.affine.tolist(),
        space=layout.space,
        store_fingerprint=store.fingerprint,
        subjects={
            part: sorted({store.recordings[s.recording].subject for s in split.part(part)})
            for part in PARTS
        },
    )


def _make_model(
    config: TrainConfig,
    store: Store,
    train_data: WindowData,
    validation_data: WindowData,
    ranks: Ranks,
    device: torch.device,
) -> tuple[torch.nn.Module, dict[str, Any] | None]:
    """Build the model; a Transformer gets its tokeniser, and the data their tokens."""
    sizes = store_sizes(store, config.data.context)
    if config.tokeniser is None:
        return build_model(config.model, None, sizes), None
    if isinstance(config.tokeniser, PrincipalComponentsConfig):
        tokeniser_config: CaeConfig | PrincipalComponentsConfig = config.tokeniser
        weights, cache = None, None
    else:
        trained = load_tokeniser(config.tokeniser, config, store)
        tokeniser_config = CaeConfig.model_validate(trained.card.model)
        weights = trained.model.state_dict()
        cache = TokenCache(
            config.tokeniser / "tokens",
            weights_sha256(resolve_weights(config.tokeniser, "best")),
            may_write=ranks.is_first,
        )
    model = build_model(config.model, tokeniser_config, sizes)
    assert isinstance(model, TransformerCNN)
    if weights is not None:
        assert isinstance(model.tokeniser, torch.nn.Module)
        model.tokeniser.load_state_dict(weights)
    prepare_tokens(model, train_data, validation_data, cache, device)
    return model, tokeniser_config.model_dump(mode="json")


def load_tokeniser(run: Path, config: TrainConfig, store: Store) -> TrainedModel:
    """Load a trained CAE; refuse one whose volumes are not those of this training.

    Raises
    ------
    CheckpointError
        If it is no CAE, or it was trained on another store, split or normalisation.
    """
    trained = load_model(resolve_weights(run, "best"))
    card, ours = trained.card, config.data
    differences = {
        "model": (card.model["name"], "cae"),
        "store": (card.store_fingerprint, store.fingerprint),
        "data.normalise": (trained.data.normalise, ours.normalise),
        "data.detrend_order": (trained.data.detrend_order, ours.detrend_order),
        "training subjects": (
            card.subjects["train"],
            make_card(config, store, make_split(store.recordings, config.split), None).subjects[
                "train"
            ],
        ),
    }
    for name, (theirs, wanted) in differences.items():
        if theirs != wanted:
            raise CheckpointError(
                f"the tokeniser does not fit: its {name} is {theirs}, here it is {wanted}",
                where=run,
                remedy="train the CAE with the same store, split and data section, and name its "
                "run folder as tokeniser",
            )
    return trained


def _warn_of_static_target(config: TrainConfig, scaling: Scaling) -> None:
    if config.data.normalise == "global":
        logger.warning(
            "data.normalise=global: %.2g %% of the target's variance is change over time; the "
            "rest is anatomy, which a constant image predicts",
            100 * scaling.temporal_share,
        )


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
