"""Principal components of the training volumes: volume <-> token, fitted in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.blocks import Grid

VOXELS_AT_ONCE = 16384  # of the float64 copy in `fit`


class PrincipalComponents(nn.Module):
    """Linear volume tokenizer; tokens have about unit variance on the training volumes.

    Parameters
    ----------
    grid : tuple of int
        Voxels (x, y, z) of a volume.
    d_token : int
        Number of components.

    Attributes
    ----------
    mean : Tensor, shape (voxel,)
        Mean training volume.
    components : Tensor, shape (d_token, voxel)
        Orthonormal components, largest variance first; in each the largest weight is positive.
    scale : Tensor, shape (d_token,)
        Standard deviation of the scores.
    """

    mean: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, grid: Grid, d_token: int):
        super().__init__()
        self.grid = grid
        self.d_token = d_token
        self.register_buffer("mean", torch.zeros(math.prod(grid)))
        self.register_buffer("components", torch.zeros(d_token, math.prod(grid)))
        self.register_buffer("scale", torch.ones(d_token))

    def forward(self, volumes: Tensor) -> Tensor:
        """Project volumes (n, x, y, z) onto the components."""
        return self.decode(self.encode(volumes))

    def encode(self, volumes: Tensor) -> Tensor:
        """Volumes (n, x, y, z) -> tokens (n, d_token)."""
        return (volumes.flatten(1) - self.mean) @ self.components.T / self.scale

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (n, d_token) -> volumes (n, x, y, z)."""
        return (self.mean + (tokens * self.scale) @ self.components).unflatten(1, self.grid)

    @torch.no_grad()
    def fit(self, blocks: Iterable[Tensor], mask: Tensor | None = None) -> None:
        """Find mean and components of all volumes, block by block.

        Each block is merged into a truncated basis of twice the components asked for, as in
        incremental PCA (Ross et al., Int. J. Comput. Vis. 77, 2008): one pass, no random
        numbers, memory for one block. Exact where all volumes fit the basis.

        Parameters
        ----------
        blocks : iterable of Tensor, each (n, x, y, z)
            Training volumes, for example one block a recording.
        mask : Tensor of bool, shape (x, y, z), optional
            Voxels that may change; the others are taken to be the same in all volumes, which
            saves most of the work. None = all.

        Raises
        ------
        DataError
            If there are fewer independent volumes than components, or values are not finite.
        """
        count, mean = 0, torch.zeros_like(self.mean)
        inside = torch.ones_like(mean) if mask is None else mask.flatten().to(mean)
        voxels = inside.nonzero()[:, 0]
        basis = mean.new_zeros(0, len(voxels))  # rows: components times singular values
        for block in blocks:
            volumes = block.flatten(1).to(mean)
            merged = count + len(volumes)
            shift = volumes.mean(0) - mean
            between = shift[voxels] * math.sqrt(count * len(volumes) / merged)
            rows = torch.cat([basis, (volumes - volumes.mean(0))[:, voxels], between[None]])
            basis = _leading_rows(rows, 2 * self.d_token)
            mean += shift * (len(volumes) / merged)
            count = merged
        self._keep(mean, basis, voxels, count)

    def _keep(self, mean: Tensor, basis: Tensor, voxels: Tensor, count: int) -> None:
        if len(basis) < self.d_token:
            raise DataError(
                f"{count} training volumes span {len(basis)} dimensions, fewer than the "
                f"{self.d_token} principal components asked for",
                remedy="lower d_token or train on more volumes",
            )
        singular_values = basis[: self.d_token].norm(dim=1)
        components = torch.linalg.qr(basis[: self.d_token].T).Q.T  # rows are near orthogonal
        largest = components.abs().argmax(1, keepdim=True)
        self.components.zero_()
        self.components[:, voxels] = components * components.gather(1, largest).sign()
        self.mean.copy_(mean)
        self.scale.copy_(singular_values / math.sqrt(count))


def _leading_rows(rows: Tensor, rank: int) -> Tensor:
    """Rotate rows onto their leading right singular vectors, scaled by singular values."""
    # float64, because a Gram matrix squares the ratio of largest to smallest variance.
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(VOXELS_AT_ONCE, dim=1):
        gram.addmm_(part.double(), part.double().T)
    if not torch.isfinite(gram).all():
        raise DataError("volumes for principal components hold values that are not finite")
    eigenvalues, vectors = torch.linalg.eigh(gram)
    independent = int((eigenvalues > eigenvalues[-1] * 1e-12).sum())
    leading = vectors[:, len(rows) - min(rank, independent) :].flip(1)
    return leading.T.to(rows) @ rows
