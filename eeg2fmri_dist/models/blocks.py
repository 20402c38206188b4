"""Parts that the 3-D convolutional models share."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int, int]

CHANNELS_PER_GROUP = 8  # of GroupNorm; BatchNorm would make results depend on the rank's batch

# Non-linear branches and outputs start small: an autoencoder that begins near linear and near the
# mean volume took about half the steps to the same held-out error on a BOLD run.
INITIAL_GAIN = 0.1


class ResidualBlock(nn.Module):
    """Add a normalised, non-linear 3x3x3 convolution to the input.

    The direct path is neither normalised nor bent, so the amplitude of a volume passes through.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(width // CHANNELS_PER_GROUP, width)
        self.conv = nn.Conv3d(width, width, kernel_size=3, padding=1)
        preserve_variance(self.conv, fan_in=27 * width, gain=INITIAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, x, y, z) -> the same."""
        return x + self.conv(F.gelu(self.norm(x)))


class PatchStem(nn.Module):
    """Merge patches of voxels by a convolution whose stride is its size.

    Such a convolution is a linear layer per patch; written so, it and its gradient take a
    fraction of the time of torch's convolution of one channel on a CPU. The grid is padded with
    zeros to whole patches.
    """

    def __init__(self, patch: Grid, width: int):
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(math.prod(patch), width)
        preserve_variance(self.linear, fan_in=math.prod(patch))

    def forward(self, volumes: Tensor) -> Tensor:
        """(n, x, y, z) -> (n, width, x / patch, y / patch, z / patch), rounded up."""
        padding: list[int] = []
        for size, side in zip(reversed(volumes.shape[1:]), reversed(self.patch), strict=True):
            padding += [0, -size % side]  # torch wants the last axis first
        patches = F.pad(volumes, padding)
        for axis, side in zip((1, 3, 5), self.patch, strict=True):
            patches = patches.unflatten(axis, (-1, side))  # (n, x, px, y, py, z, pz) in the end
        return self.linear(patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)).movedim(-1, 1)


class PatchHead(nn.Module):
    """Turn each cell back into a patch of voxels, the mirror of `PatchStem`; crop to the grid."""

    def __init__(self, patch: Grid, width: int, grid: Grid):
        super().__init__()
        self.patch = patch
        self.grid = grid
        self.linear = nn.Linear(width, math.prod(patch))
        preserve_variance(self.linear, fan_in=width, gain=INITIAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, ...) -> (n, x, y, z)."""
        patches = self.linear(x.movedim(1, -1)).unflatten(-1, self.patch)
        volumes = patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return crop(volumes, self.grid)


class Downsample(nn.Module):
    """Halve the grid, rounding up."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.conv = nn.Conv3d(width, width_out, kernel_size=3, stride=2, padding=1)
        preserve_variance(self.conv, fan_in=27 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, x, y, z) -> (n, width_out, x / 2, y / 2, z / 2), rounded up."""
        return self.conv(x)


class Upsample(nn.Module):
    """Double the grid, cropped to the size that was halved."""

    def __init__(self, width: int, width_out: int, grid: Grid):
        super().__init__()
        self.grid = grid
        self.conv = nn.ConvTranspose3d(width, width_out, kernel_size=2, stride=2)
        preserve_variance(self.conv, fan_in=width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, ...) -> (n, width_out, *grid)."""
        return crop(self.conv(x), self.grid)


def level_grids(grid: Grid, patch: Grid, levels: int) -> list[Grid]:
    """Return the grid of each level: patches first, then halved and rounded up."""
    grids = [_divide_up(grid, patch)]
    while len(grids) < levels:
        grids.append(_divide_up(grids[-1], (2, 2, 2)))
    return grids


def crop(x: Tensor, grid: Grid) -> Tensor:
    """Cut the last three axes to the grid."""
    return x[..., : grid[0], : grid[1], : grid[2]]


def preserve_variance(
    layer: nn.Conv3d | nn.ConvTranspose3d | nn.Linear, fan_in: int, *, gain: float = 1.0
) -> None:
    """Draw weights so that independent inputs of variance 1 give outputs of variance gain^2.

    torch's own default shrinks the signal by sqrt(3) per layer, which a path without
    normalisation cannot make good, and counts the inputs of a transposed convolution wrongly.
    """
    nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _divide_up(grid: Grid, by: Grid) -> Grid:
    x, y, z = (-(-size // side) for size, side in zip(grid, by, strict=True))
    return x, y, z
