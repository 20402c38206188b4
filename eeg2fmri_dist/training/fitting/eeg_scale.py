"""Log power or power of the EEG, where a config leaves that to ridge regression."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from eeg2fmri_dist.config.model import EnsembleConfig, ModelConfig, TransformerConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.weights import resolve_weights

EegScale = Literal["log", "power"]
EEG_SCALES: tuple[EegScale, ...] = get_args(EegScale)


def on_scale(config: TrainConfig, scale: EegScale) -> TrainConfig:
    """Return a config with one EEG scale."""
    return config.model_copy(update={"data": config.data.model_copy(update={"eeg_scale": scale})})


def possible_scales(config: TrainConfig) -> tuple[EegScale, ...]:
    """Return the EEG scales that ridge regression is to be fitted on."""
    scale = config.data.eeg_scale
    return EEG_SCALES if scale == "auto" else (scale,)


def settle_eeg_scale(config: TrainConfig) -> TrainConfig:
    """Give a Transformer the EEG scale of the ridge regression that it starts at.

    And an ensemble that of its first member.

    Parameters
    ----------
    config : TrainConfig
        Of any model but ridge regression.

    Returns
    -------
    TrainConfig
        The same, where its scale is not ``auto``.

    Raises
    ------
    CheckpointError
        If the other run has no weights, or they cannot be used.
    """
    if config.data.eeg_scale != "auto":
        return config
    known = load_model(resolve_weights(_who_knows(config.model), "best"))
    scale = known.data.eeg_scale
    assert scale != "auto"  # a trained model knows its own
    return on_scale(config, scale)


def _who_knows(model: ModelConfig) -> Path:
    """Return the run folder whose EEG scale is taken over."""
    if isinstance(model, EnsembleConfig):
        return model.members[0]
    assert isinstance(model, TransformerConfig)
    assert model.skip_from is not None
    return model.skip_from
