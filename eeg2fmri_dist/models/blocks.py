"""Parts that the 3-D convolutional models share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int, int]

CHANNELS_PER_GROUP = 8  # of GroupNorm; BatchNorm would make results depend on the rank's batch

# Non-linear branches and outputs start small: an autoencoder that begins near linear and near the
# mean volume took about half the steps to the same held-out error on a BOLD run.
INITIAL_GAIN = 0.1


class Convolution(nn.Conv3d):
    """A 3x3x3 convolution that is right in bfloat16 on small grids, too.

    On CPUs with bfloat16 instructions the weights' gradient of torch 2.13 (oneDNN 3.12) reads
    and writes memory that is not its own where an axis has fewer than 3 cells: it is wrong by any
    amount, and now and then the process ends. There the convolution is computed in float32.
    """

    def __init__(self, width: int, width_out: int, *, stride: int = 1):
        super().__init__(width, width_out, kernel_size=3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, x, y, z) -> (n, width_out, x / stride, y / stride, z / stride)."""
        if x.device.type != "cpu" or min(x.shape[2:]) >= 3:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


class ResidualBlock(nn.Module):
    """Add a normalized, non-linear 3x3x3 convolution to the input.

    The direct path is neither normalized nor bent, so the amplitude of a volume passes through.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(width // CHANNELS_PER_GROUP, width)
        self.conv = Convolution(width, width)
        preserve_variance(self.conv, fan_in=27 * width, gain=INITIAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, x, y, z) -> the same."""
        return x + self.conv(F.gelu(self.norm(x)))


class PatchStem(nn.Module):
    """Merge patches of voxels by a convolution whose stride is its size.

    Such a convolution is a linear layer per patch; written so, it and its gradient take a
    fraction of the time of torch's convolution of one channel on a CPU. Patches lie along the last
    axis, as the convolutions that follow want it. The grid is padded with zeros to whole patches.
    """

    def __init__(self, patch: Grid, width: int):
        super().__init__()
        self.patch = patch
        self.linear = nn.Conv1d(math.prod(patch), width, kernel_size=1)
        preserve_variance(self.linear, fan_in=math.prod(patch))

    def forward(self, volumes: Tensor) -> Tensor:
        """(n, x, y, z) -> (n, width, x / patch, y / patch, z / patch), rounded up."""
        padding: list[int] = []
        for size, side in zip(reversed(volumes.shape[1:]), reversed(self.patch), strict=True):
            padding += [0, -size % side]  # torch wants the last axis first
        patches = F.pad(volumes, padding)
        for axis, side in zip((1, 3, 5), self.patch, strict=True):
            patches = patches.unflatten(axis, (-1, side))  # (n, x, px, y, py, z, pz) in the end
        patches = patches.permute(0, 2, 4, 6, 1, 3, 5)
        grid = patches.shape[4:]
        return self.linear(patches.flatten(4).flatten(1, 3)).unflatten(2, grid)


class PatchHead(nn.Module):
    """Turn each cell back into a patch of voxels, the mirror of `PatchStem`; crop to the grid."""

    def __init__(self, patch: Grid, width: int, grid: Grid):
        super().__init__()
        self.patch = patch
        self.grid = grid
        self.linear = nn.Conv1d(width, math.prod(patch), kernel_size=1)
        preserve_variance(self.linear, fan_in=width, gain=INITIAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, ...) -> (n, x, y, z)."""
        patches = self.linear(x.flatten(2)).unflatten(1, self.patch).unflatten(4, x.shape[2:])
        # Whole lines of z first: moving them then takes half the time of moving pieces of a patch.
        lines = patches.movedim(3, 6).flatten(5, 6)  # (n, px, py, x, y, z)
        volumes = lines.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
        return crop(volumes, self.grid)


class Downsample(nn.Module):
    """Halve the grid, rounding up."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.conv = Convolution(width, width_out, stride=2)
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
    layer: nn.Conv1d | nn.Conv3d | nn.ConvTranspose3d | nn.Linear, fan_in: int, *, gain: float = 1.0
) -> None:
    """Draw weights so that independent inputs of variance 1 give outputs of variance gain^2.

    torch's own default shrinks the signal by sqrt(3) per layer, which a path without
    normalization cannot make good, and counts the inputs of a transposed convolution wrongly.
    """
    nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _divide_up(grid: Grid, by: Grid) -> Grid:
    x, y, z = (-(-size // side) for size, side in zip(grid, by, strict=True))
    return x, y, z
