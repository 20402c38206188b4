"""The data of a training: windows of the split, scaled by what training recordings tell."""

from __future__ import annotations

import functools
import logging
import operator
from dataclasses import dataclass

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.normalization import Scaling, sum_for_scaling
from eeg2fmri_dist.data.splits import Split, make_split
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.distributed.collectives import share_objects
from eeg2fmri_dist.training.distributed.ranks import Ranks

logger = logging.getLogger(__name__)

_LEAK_WARNING = (
    "split.name=by_sample puts volumes of one subject into training and test: scores will look "
    "better than the model is"
)


@dataclass(frozen=True)
class SplitData:
    """Windows of the split, scaled by what training recordings tell."""

    split: Split
    scaling: Scaling
    train: WindowData
    validation: WindowData


def open_data(config: TrainConfig, store: Store, ranks: Ranks) -> SplitData:
    """Split a store and normalize what is trained on and validated on (collective)."""
    split = make_split(store.recordings, config.split)
    if split.leaks:
        logger.warning(_LEAK_WARNING)
    scaling = _fit_scaling(store, split, config, ranks)
    _warn_of_static_target(config, scaling)
    return SplitData(
        split,
        scaling,
        WindowData(store, split.train, config.data, scaling, ranks.local_size),
        WindowData(store, split.validation, config.data, scaling, ranks.local_size),
    )


def _fit_scaling(store: Store, split: Split, config: TrainConfig, ranks: Ranks) -> Scaling:
    """Read the training recordings once, shared out over ranks (collective)."""
    own = split.train[ranks.rank :: ranks.world_size]
    parts = share_objects(sum_for_scaling(store, own, config.data))
    return functools.reduce(operator.add, parts).scaling()


def _warn_of_static_target(config: TrainConfig, scaling: Scaling) -> None:
    if config.data.normalize == "global":
        logger.warning(
            "data.normalize=global: %.2g %% of the target's variance is change over time; the "
            "rest is anatomy, which a constant image predicts",
            100 * scaling.temporal_share,
        )
