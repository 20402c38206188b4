"""3-D U-Net baseline: the EEG of the last few TRs -> one volume."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eeg2fmri_dist.config.model import UNetConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.blocks import (
    Downsample,
    Grid,
    PatchHead,
    ResidualBlock,
    Upsample,
    level_grids,
    preserve_variance,
)


class UNet(nn.Module):
    """Baseline without memory: each volume from its own window of EEG.

    The EEG of the TR and of the `context` TRs before it is projected to a coarse feature volume,
    spread over the grid, and joined by a learned feature map of position (anatomy). A U-Net
    (contracting path, expanding path, a skip connection per level) turns it into the volume. Its
    finest level works on patches of voxels, which makes it affordable on a CPU.

    Parameters
    ----------
    grid : tuple of int
        Voxels (x, y, z) of a volume.
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    context : int
        EEG TRs before the first volume of a window.
    config : UNetConfig
        Widths, patch and options.

    Notes
    -----
    Çiçek et al., "3D U-Net", MICCAI 2016, with group normalization and residual blocks.
    """

    def __init__(
        self,
        grid: Grid,
        num_channels: int,
        num_frequencies: int,
        *,
        context: int,
        config: UNetConfig,
    ):
        super().__init__()
        self.grid = grid
        self.context = context
        self.eeg_shape = (num_channels, num_frequencies)
        widths = config.widths
        grids = level_grids(grid, config.patch, len(widths))

        self.dropout = nn.Dropout(config.eeg_dropout)
        self.reduce = nn.Linear(num_channels * num_frequencies, config.d_eeg)
        self.coarse_shape = (widths[0], *grids[-1])
        self.to_volume = nn.Linear((context + 1) * config.d_eeg, math.prod(self.coarse_shape))
        self.position = nn.Parameter(torch.empty(widths[0], *grids[0]))

        levels = range(len(widths) - 1)
        self.contract = nn.ModuleList(ResidualBlock(width) for width in widths)
        self.down = nn.ModuleList(Downsample(widths[i], widths[i + 1]) for i in levels)
        self.up = nn.ModuleList(Upsample(widths[i + 1], widths[i], grids[i]) for i in levels)
        self.merge = nn.ModuleList(nn.Conv3d(2 * widths[i], widths[i], 1) for i in levels)
        self.expand = nn.ModuleList(ResidualBlock(widths[i]) for i in levels)
        self.head = PatchHead(config.patch, widths[0], grid)
        nn.init.normal_(self.position, std=0.02)
        preserve_variance(self.reduce, fan_in=num_channels * num_frequencies)
        preserve_variance(self.to_volume, fan_in=(context + 1) * config.d_eeg)

    def forward(self, eeg: Tensor) -> Tensor:
        """Predict the volumes of a window.

        Parameters
        ----------
        eeg : Tensor, shape (batch, context + T, channel, frequency)
            EEG features.

        Returns
        -------
        Tensor, shape (batch, T, x, y, z)

        Raises
        ------
        DataError
            If the EEG has other channels or frequencies than the model, or only context.
        """
        if eeg.shape[2:] != self.eeg_shape or eeg.shape[1] <= self.context:
            raise DataError(
                f"EEG window of {tuple(eeg.shape[1:])} (TR, channel, frequency), the model needs "
                f"more than {self.context} TRs of {self.eeg_shape}",
                remedy="use EEG features with the channels and frequencies of the training data",
            )
        per_tr = F.gelu(self.reduce(self.dropout(eeg.flatten(2))))
        lags = per_tr.unfold(1, self.context + 1, 1).flatten(2)  # (batch, T, d_eeg x lag)
        volumes = self._u_net(self._spread(lags.flatten(0, 1)))
        return volumes.unflatten(0, lags.shape[:2])

    def _spread(self, lags: Tensor) -> Tensor:
        """(n, d_eeg x lag) -> feature volume of the finest level (n, width, x, y, z)."""
        coarse = self.to_volume(lags).unflatten(1, self.coarse_shape)
        size = self.position.shape[1:]
        return self.position + F.interpolate(coarse, size=size, mode="trilinear")

    def _u_net(self, x: Tensor) -> Tensor:
        """Feature volume -> volumes (n, x, y, z)."""
        skips = []
        for block, down in zip(self.contract, self.down, strict=False):
            skips.append(block(x))
            x = down(skips[-1])
        x = self.contract[-1](x)
        for level in reversed(range(len(skips))):
            x = torch.cat([self.up[level](x), skips[level]], dim=1)
            x = self.expand[level](self.merge[level](x))
        return self.head(x)
