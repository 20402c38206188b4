"""What models and scores must know of a store: sizes, targets, regions."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.config.model import ModelConfig, RidgeConfig
from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.models.build import DataSizes
from eeg2fmri_dist.scores.networks import Regions
from eeg2fmri_dist.store import Store


def store_sizes(store: Store, context: int, model: ModelConfig | None = None) -> DataSizes:
    """Return what a model must know of a store; of ridge regression, give its config too."""
    num_targets = None
    if isinstance(model, RidgeConfig):
        num_targets = int(number_targets(store, model).max())
    return DataSizes(
        grid=store.layout.grid,
        num_channels=len(store.layout.channel_names),
        num_frequencies=len(store.layout.frequencies_hz),
        context=context,
        tr_s=store.recordings[0].tr_s,
        num_targets=num_targets,
    )


def number_targets(store: Store, config: RidgeConfig) -> np.ndarray:
    """Return what each voxel (x, y, z) belongs to, a region or itself, from 1; 0 = nothing."""
    if config.targets == "regions":
        return store_regions(store).labels
    mask = store.layout.mask
    return np.where(mask, np.cumsum(mask).reshape(mask.shape), 0)


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
