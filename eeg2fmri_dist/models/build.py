"""Config sections -> models, with all sizes taken from the data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from eeg2fmri_dist.config.model import (
    CaeConfig,
    PrincipalComponentsConfig,
    TransformerConfig,
    UNetConfig,
)
from eeg2fmri_dist.models.blocks import Grid
from eeg2fmri_dist.models.cae import ConvolutionalAutoencoder
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.tokeniser import VolumeTokeniser
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
    """

    grid: Grid
    num_channels: int
    num_frequencies: int
    context: int
    tr_s: float


def build_tokeniser(
    config: CaeConfig | PrincipalComponentsConfig, grid: Grid
) -> ConvolutionalAutoencoder | PrincipalComponents:
    """Return an untrained volume tokeniser."""
    if isinstance(config, CaeConfig):
        return ConvolutionalAutoencoder(grid, config)
    return PrincipalComponents(grid, config.d_token)


def build_transformer(
    config: TransformerConfig, sizes: DataSizes, tokeniser: VolumeTokeniser
) -> TransformerCNN:
    """Return an untrained Transformer-CNN around a tokeniser."""
    return TransformerCNN(
        tokeniser,
        sizes.num_channels,
        sizes.num_frequencies,
        context=sizes.context,
        tr_s=sizes.tr_s,
        config=config,
    )


def build_unet(config: UNetConfig, sizes: DataSizes) -> UNet:
    """Return an untrained U-Net."""
    return UNet(
        sizes.grid,
        sizes.num_channels,
        sizes.num_frequencies,
        context=sizes.context,
        config=config,
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build_model(
    config: CaeConfig | TransformerConfig | UNetConfig,
    tokeniser: CaeConfig | PrincipalComponentsConfig | None,
    sizes: DataSizes,
) -> nn.Module:
    """Return an untrained model of any kind; `tokeniser` is for a Transformer only."""
    if isinstance(config, CaeConfig):
        return build_tokeniser(config, sizes.grid)
    if isinstance(config, UNetConfig):
        return build_unet(config, sizes)
    assert tokeniser is not None, "TrainConfig refuses a transformer without a tokeniser"
    return build_transformer(config, sizes, build_tokeniser(tokeniser, sizes.grid))
