"""Untrained models in files, as a training saves them."""

from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.normalization import fit_scaling
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.inference.model_file import save_model
from eeg2fmri_dist.models.build import build_model
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.initial_model import make_card
from eeg2fmri_dist.training.store_facts import store_sizes

UNET = {"name": "unet", "widths": [8, 16], "d_eeg": 8}


def save_untrained(path: Path, store: Store, model: dict[str, Any], **settings: Any) -> None:
    """Write a model with its initial weights, for a store; `settings` are of its config."""
    config = TrainConfig.model_validate(
        {
            "store": store.path,
            "output": "unused",
            "model": model,
            "data": {"window": 16, "context": 4},
            **settings,
        }
    )
    torch.manual_seed(0)
    built = build_model(config.model, None, store_sizes(store, config.data.context))
    split = make_split(store.recordings, config.split)
    scaling = fit_scaling(store, split.train, config.data)
    card = make_card(config, store, split, None)
    save_model(path, built.state_dict(), card, scaling, store.layout.mask)
