"""Whether a trial can fit into the memory of its job, before it queues."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.model import EnsembleConfig
from eeg2fmri_dist.config.sweep import ResourcesConfig
from eeg2fmri_dist.config.train import TrainConfig


def find_shortage(config: TrainConfig, resources: ResourcesConfig) -> str | None:
    """Return why a training cannot fit its job; None where it may.

    The estimate is a lower bound: weights, gradients and optimizer, and on a CPU with
    ``data.cache: ram`` the volumes. Activations come on top, so what passes may still be too large,
    but nothing that fits is refused.
    """
    if resources.memory_gib is None and resources.gpu_memory_gib is None:
        return None
    state_gib = training_state_bytes(config, resources.world_size) / 2**30
    if resources.gpus_per_node:
        return _compare(state_gib, resources.gpu_memory_gib, "a GPU", "resources.gpu_memory_gib")
    need_gib = resources.ranks_per_node * state_gib + _cached_bytes(config) / 2**30
    return _compare(need_gib, resources.memory_gib, "a node", "resources.memory_gib")


def training_state_bytes(config: TrainConfig, world_size: int) -> float:
    """Return the bytes per rank of weights, gradients and optimizer under the ZeRO stage."""
    if isinstance(config.model, EnsembleConfig):
        return 0.0  # nothing is trained
    import torch

    from eeg2fmri_dist.files.run_folder import load_run_config
    from eeg2fmri_dist.models.build import build_model, count_parameters
    from eeg2fmri_dist.store import Store
    from eeg2fmri_dist.training.distributed.deepspeed_config import effective_zero_stage
    from eeg2fmri_dist.training.store_facts import store_sizes

    tokenizer: Any = config.tokenizer
    if isinstance(tokenizer, Path):
        tokenizer = load_run_config(tokenizer).model
    with torch.device("meta"):
        sizes = store_sizes(Store(config.store), config.data.context, config.model)
        model = build_model(config.model, tokenizer, sizes)
    stage = effective_zero_stage(config.engine, world_size)
    weights = 4 / world_size if stage >= 3 else 4
    gradients = 4 / world_size if stage >= 2 else 4
    moments = 8 / world_size if stage >= 1 else 8
    return (weights + gradients + moments) * count_parameters(model)


def _cached_bytes(config: TrainConfig) -> float:
    """Bytes of the volumes that a node keeps in RAM: float32, training and validation."""
    from eeg2fmri_dist.data.splits import make_split
    from eeg2fmri_dist.store import Store

    if config.data.cache != "ram":
        return 0.0
    store = Store(config.store)
    split = make_split(store.recordings, config.split)
    volumes = sum(s.stop - s.start for s in (*split.train, *split.validation))
    return 4.0 * volumes * math.prod(store.layout.grid)


def _compare(need_gib: float, limit_gib: float | None, of: str, key: str) -> str | None:
    if limit_gib is None or need_gib <= limit_gib:
        return None
    return f"needs at least {need_gib:.3g} GiB of {of}, {key} is {limit_gib:g}"
