"""NODDI-size trainings of the default configs, on random windows that lie in RAM."""

from __future__ import annotations

import torch
from torch import Tensor

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.model import CaeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.inference.objectives import Objective
from eeg2fmri_dist.models.build import DataSizes, build_model
from eeg2fmri_dist.training.initial_model import training_objective
from tests.helpers.repository import ROOT

GRID = (64, 64, 30)
NUM_CHANNELS, NUM_FREQUENCIES = 63, 30
TR_S = 2.16


def default_config(model: str, *overrides: str) -> TrainConfig:
    """Return configs/train/MODEL.yaml."""
    return load_config(TrainConfig, ROOT / "configs" / "train" / f"{model}.yaml", overrides)


def make_noddi_objective(config: TrainConfig, seed: int = 0) -> Objective:
    """Return the untrained model of a config with its loss, at NODDI's sizes."""
    torch.manual_seed(seed)
    sizes = DataSizes(GRID, NUM_CHANNELS, NUM_FREQUENCIES, config.data.context, TR_S)
    tokenizer = default_cae() if config.model.name == "transformer" else None
    model = build_model(config.model, tokenizer, sizes)
    return training_objective(config, model, brain_mask().numpy())


def default_cae() -> CaeConfig:
    """Return the CAE of configs/train/cae.yaml."""
    model = default_config("cae").model
    assert isinstance(model, CaeConfig)
    return model


def brain_mask() -> Tensor:
    """Return an ellipsoid that fills about as much of the grid as a brain."""
    axes = [torch.linspace(-1.2, 1.2, size) for size in GRID]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= 1


def random_batch(objective: Objective, config: TrainConfig, windows: int) -> dict[str, Tensor]:
    """Return windows of noise with the fields that a training step of the model needs."""
    window, context = config.data.window, config.data.context
    shapes = {
        "eeg": (windows, context + window, NUM_CHANNELS, NUM_FREQUENCIES),
        "bold": (windows, window, *GRID),
        "tokens": (windows, window, default_cae().d_token),
    }
    return {name: torch.randn(shapes[name]) for name in objective.fields}
