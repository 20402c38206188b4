"""Ridge regression from sums over recordings, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eeg2fmri_dist.errors import DataError

# In units of the mean eigenvalue of the features' sums of squares.
PENALTIES = torch.logspace(-3, 4, 22, dtype=torch.float64)
_TARGETS_AT_ONCE = 4096
# Of the largest; far above the rounding of features in float32, far below what ridge gives weight.
_SMALLEST_EIGENVALUE = 1e-9


@dataclass
class Sums:
    """Sums over time points in float64; those of products are of features without their trend.

    The trend of a recording is its mean, or a polynomial over its time: what targets have been
    detrended by must not be in the features, or weights would be fitted to it (Frisch and Waugh,
    Econometrica 1, 1933).

    Attributes
    ----------
    xx : Tensor, shape (feature, feature)
        Products of features.
    xy : Tensor, shape (feature, target)
        Products of features and targets.
    x : Tensor, shape (feature,)
        Features, not centered.
    y : Tensor, shape (target,)
        Targets, not centered.
    count : Tensor, shape ()
        Time points.
    """

    xx: Tensor
    xy: Tensor
    x: Tensor
    y: Tensor
    count: Tensor

    @classmethod
    def empty_for(cls, coefficients: Tensor) -> Sums:
        """Return sums over nothing, for weights (feature, target), on their device."""
        num_features, num_targets = coefficients.shape

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=coefficients.device)

        return cls(
            xx=zeros(num_features, num_features),
            xy=zeros(num_features, num_targets),
            x=zeros(num_features),
            y=zeros(num_targets),
            count=zeros(),
        )

    def add_recording(
        self,
        features: Tensor,
        blocks: Iterable[Tensor],
        where: Any = None,
        *,
        trend: Tensor | None = None,
    ) -> None:
        """Add one recording.

        Parameters
        ----------
        features : Tensor, shape (volume, feature)
            Of the whole recording.
        blocks : iterable of Tensor, each (n, target)
            Its targets, in order, some volumes at a time.
        where : object, optional
            The recording, for messages.
        trend : Tensor, shape (volume, k), optional
            Orthonormal columns regressed out of the features, a constant one among them; None = a
            constant alone.

        Raises
        ------
        DataError
            If a value is not finite.
        """
        features = features.double()
        straight = features - _trend(features, trend)
        start = 0
        for block in blocks:
            targets = block.double()
            # The trend of the targets drops out of the product.
            self.xy.addmm_(straight[start : start + len(block)].T, targets)
            self.y += targets.sum(0)
            start += len(block)
        self.xx.addmm_(straight.T, straight)
        self.x += features.sum(0)
        self.count += len(features)
        if not (self.xx.isfinite().all() and self.y.isfinite().all()):
            raise DataError(
                "EEG features or volumes hold values that are not finite",
                where=where,
                remedy="run `python -m eeg2fmri_dist.store verify` on the store",
            )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what ranks add up, in an order that they share."""
        yield from (self.xx, self.xy, self.x, self.y, self.count)


@dataclass(frozen=True)
class RidgeSolution:
    """Weights in closed form.

    Attributes
    ----------
    coefficients : Tensor, shape (feature, target), float32
        Weights of features that are not centered.
    intercept : Tensor, shape (target,), float32
        Makes the mean prediction of the training recordings their mean target.
    penalty : float
        That was chosen.
    penalties, errors : Tensor, shape (penalty,), float64
        All that were tried, and their summed squared error on validation recordings, less the sum
        of squares of the targets: 0 is the error of each recording's mean.
    weighting : Tensor, shape (feature,)
        The one that was chosen.
    """

    coefficients: Tensor
    intercept: Tensor
    penalty: float
    penalties: Tensor
    errors: Tensor
    weighting: Tensor


def solve_ridge(
    train: Sums, validation: Sums, weightings: Iterable[Tensor] | None = None
) -> RidgeSolution:
    """Solve for the penalty that suits validation recordings best; one for all targets.

    Parameters
    ----------
    train, validation : Sums
        Over training and validation recordings.
    weightings : iterable of Tensor, each (feature,), optional
        What features are multiplied by before the penalty counts: small = their coefficients are
        expected to be small, 0 = left out. The one that suits validation recordings best is chosen,
        too; None = all features alike.

    Raises
    ------
    DataError
        If either holds no recording, or no feature varies.
    """
    if not (train.count and validation.count):
        raise DataError(
            "ridge regression needs training and validation recordings, one has none",
            remedy="check the split",
        )
    weightings = [torch.ones_like(train.x)] if weightings is None else list(weightings)
    products = _Products(train.xy @ train.xy.T, train.xy @ validation.xy.T)
    paths = [
        _Path.through(train, validation, products, weights.to(train.x)) for weights in weightings
    ]
    return min(paths, key=lambda path: float(path.errors.min())).solve(train)


@dataclass(frozen=True)
class _Products:
    """Products of features and targets with each other, which no weighting changes."""

    train: Tensor  # (feature, feature)
    across: Tensor  # of training with validation recordings


@dataclass(frozen=True)
class _Path:
    """Ridge regression with one weighting of the features and every penalty."""

    weights: Tensor  # (feature,)
    directions: Tensor  # (feature, direction): weighted eigenvectors
    shrinkage: Tensor  # (penalty, direction)
    penalties: Tensor
    errors: Tensor

    @classmethod
    def through(cls, train: Sums, validation: Sums, products: _Products, weights: Tensor) -> _Path:
        """Score every penalty on validation recordings."""
        kept = weights.nonzero()[:, 0]
        inside = weights[kept, None] * train.xx[kept[:, None], kept] * weights[kept]
        eigenvalues, vectors = torch.linalg.eigh(inside)
        if not eigenvalues[-1] > 0:
            raise DataError(
                "no EEG feature changes over time in the training recordings",
                remedy="check the EEG of the store",
            )
        directions = train.xx.new_zeros(len(weights), len(kept))
        directions[kept] = weights[kept, None] * vectors
        penalties = PENALTIES.to(eigenvalues) * eigenvalues.mean()
        shrinkage = 1 / (eigenvalues.clamp(min=0) + penalties[:, None])
        errors = _squared_errors(shrinkage, directions, products, validation.xx)
        return cls(weights, directions, shrinkage, penalties, errors)

    def solve(self, train: Sums) -> RidgeSolution:
        """Return the weights with the best penalty."""
        best = int(self.errors.argmin())
        inverse = self.directions * self.shrinkage[best] @ self.directions.T
        # Some targets at a time, so that there is no second matrix of all in float64.
        coefficients = torch.cat(
            [(inverse @ xy).float() for xy in train.xy.split(_TARGETS_AT_ONCE, dim=1)], dim=1
        )
        return RidgeSolution(
            coefficients=coefficients,
            intercept=_intercept(train, inverse),
            penalty=float(self.penalties[best]),
            penalties=self.penalties.cpu(),
            errors=self.errors.cpu(),
            weighting=self.weights,
        )


def solve_least_squares(sums: Sums, penalty: float) -> tuple[Tensor, Tensor]:
    """Return coefficients (feature, target) and intercept (target,) for a given penalty, or 0.

    Directions in which features hardly vary get no weight.
    """
    eigenvalues, vectors = torch.linalg.eigh(sums.xx)
    kept = eigenvalues > _SMALLEST_EIGENVALUE * eigenvalues[-1]
    inverse = vectors[:, kept] / (eigenvalues[kept] + penalty) @ vectors[:, kept].T
    return (inverse @ sums.xy).float(), _intercept(sums, inverse)


def _intercept(sums: Sums, inverse: Tensor) -> Tensor:
    """Mean target less the mean prediction without intercept."""
    return ((sums.y - (sums.x @ inverse) @ sums.xy) / sums.count).float()


def _squared_errors(
    shrinkage: Tensor, directions: Tensor, products: _Products, validation_xx: Tensor
) -> Tensor:
    """Summed squared validation error per penalty, less the constant sum of squares of y.

    With weights W = V D V'X'Y the error is tr(W' Xv'Xv W) - 2 tr(W' Xv'Yv): matrices of features
    squared, whatever the number of targets and time points.
    """
    gram = directions.T @ validation_xx @ directions
    explained = directions.T @ products.train @ directions
    cross = ((products.across @ directions) * directions).sum(0)
    return ((shrinkage @ (gram * explained)) * shrinkage).sum(1) - 2 * shrinkage @ cross


def _trend(features: Tensor, basis: Tensor | None) -> Tensor:
    """Part of features (volume, feature) that lies in orthonormal columns (volume, k)."""
    if basis is None:
        return features.mean(0)
    basis = basis.to(features)
    return basis @ (basis.T @ features)
