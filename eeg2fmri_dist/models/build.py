"""Config sections -> models, with all sizes taken from the data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from eeg2fmri_dist.config.model import (
    CaeConfig,
    EnsembleConfig,
    ModelConfig,
    RidgeConfig,
    TokenizerConfig,
    UNetConfig,
)
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.models.blocks import Grid
from eeg2fmri_dist.models.cae import ConvolutionalAutoencoder
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.ridge import RidgeRegression
from eeg2fmri_dist.models.transformer import TransformerCNN
from eeg2fmri_dist.models.unet import UNet


@dataclass(frozen=True)
class DataSizes:
    """What a model must know of the data that it is made for.

    Attributes
    ----------
    grid : tuple of int
        Voxels (x, y, z) of a volume.
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    context : int
        EEG TRs before the first volume of a window.
    tr_s : float
        Repetition time in s.
    num_targets : int or None
        Voxels or regions that ridge regression predicts; None for the other models.
    """

    grid: Grid
    num_channels: int
    num_frequencies: int
    context: int
    tr_s: float
    num_targets: int | None = None


def build_model(
    config: ModelConfig, tokenizer: TokenizerConfig | None, sizes: DataSizes
) -> ConvolutionalAutoencoder | TransformerCNN | UNet | RidgeRegression:
    """Return an untrained model.

    Parameters
    ----------
    config : CaeConfig, TransformerConfig, UNetConfig or RidgeConfig
        Which model, and its options.
    tokenizer : CaeConfig, PrincipalComponentsConfig or None
        Volume tokenizer of a Transformer; None for the others.
    sizes : DataSizes
        Sizes of the data.

    Raises
    ------
    ConfigError
        If a Transformer has no tokenizer, ridge regression too short a context, or it is an
        ensemble.
    """
    if isinstance(config, EnsembleConfig):
        raise ConfigError("an ensemble is made of models that are trained", where="model.name")
    if isinstance(config, CaeConfig):
        return ConvolutionalAutoencoder(sizes.grid, config)
    size_of_tr = sizes.num_channels, sizes.num_frequencies
    if isinstance(config, UNetConfig):
        return UNet(sizes.grid, *size_of_tr, context=sizes.context, config=config)
    if isinstance(config, RidgeConfig):
        assert sizes.num_targets is not None
        return RidgeRegression(
            sizes.grid,
            *size_of_tr,
            context=sizes.context,
            tr_s=sizes.tr_s,
            num_targets=sizes.num_targets,
            products=config.quadratic,
        )
    if tokenizer is None:
        raise ConfigError("a transformer needs a volume tokenizer", where="tokenizer")
    return TransformerCNN(
        build_tokenizer(tokenizer, sizes.grid),
        *size_of_tr,
        context=sizes.context,
        tr_s=sizes.tr_s,
        config=config,
    )


def build_tokenizer(
    config: TokenizerConfig, grid: Grid
) -> ConvolutionalAutoencoder | PrincipalComponents:
    """Return an untrained volume tokenizer."""
    if isinstance(config, CaeConfig):
        return ConvolutionalAutoencoder(grid, config)
    return PrincipalComponents(grid, config.d_token)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def model_bytes(model: nn.Module) -> int:
    """Return the size of a model's parameters, trained or not, and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
