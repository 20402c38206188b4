"""What a training would do: sizes, steps, memory, without doing it."""

from __future__ import annotations

from pathlib import Path

import torch

from eeg2fmri_dist.config.model import CaeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.models.build import build_model, count_parameters
from eeg2fmri_dist.runs import load_run_config
from eeg2fmri_dist.sampler import BatchSampler
from eeg2fmri_dist.splits import PARTS, make_split
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.run import store_sizes
from eeg2fmri_dist.windows import training_windows

_RANKS_SHOWN = (1, 2, 4, 8)


def plan_training(config: TrainConfig) -> list[str]:
    """Return the lines of ``--dry-run``.

    Memory is that of weights, gradients and Adam's two moments in fp32; activations come on top.
    """
    store = Store(config.store)
    split = make_split(store.recordings, config.split)
    optimisation = config.optimisation
    windows = training_windows(
        [segment.stop - segment.start for segment in split.train],
        config.data.window,
        config.data.stride,
    )
    sampler = BatchSampler(len(windows), optimisation.batch_size, optimisation.seed)
    with torch.device("meta"):
        model = build_model(
            config.model, _tokeniser_config(config), store_sizes(store, config.data.context)
        )
    lines = [f"{config.model.name}, {config.recipe} recipe, into {config.output}"]
    for part in PARTS:
        subjects = [store.recordings[segment.recording].subject for segment in split.part(part)]
        lines.append(f"  {part}: {len(subjects)} recordings ({', '.join(subjects)})")
    trained = count_parameters(model)
    lines += [
        f"  {len(windows)} windows of {config.data.window} TRs, {sampler.batches_per_epoch} steps "
        f"per epoch, {sampler.batches_per_epoch * optimisation.epochs} in all",
        f"  {trained:,} trained parameters",
        f"  checkpoint: about {16 * trained / 2**20:.0f} MiB, {config.checkpoints.keep + 1} kept",
        "  memory per rank for weights, gradients and optimiser (MiB), by ZeRO stage:",
        "    ranks    " + "".join(f"stage {stage:<6}" for stage in (0, 1, 2)),
    ]
    lines += [_memory_row(trained, world_size) for world_size in _RANKS_SHOWN]
    return lines


def _memory_row(parameters: int, world_size: int) -> str:
    weights = gradients = 4 * parameters
    moments = 8 * parameters
    by_stage = (
        weights + gradients + moments,
        weights + gradients + moments / world_size,
        weights + (gradients + moments) / world_size,
    )
    return f"    {world_size:<9}" + "".join(f"{size / 2**20:<12.0f}" for size in by_stage)


def _tokeniser_config(config: TrainConfig):
    if not isinstance(config.tokeniser, Path):
        return config.tokeniser
    cae = load_run_config(config.tokeniser).model
    assert isinstance(cae, CaeConfig)
    return cae
