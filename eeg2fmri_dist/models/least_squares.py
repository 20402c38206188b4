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
    """Sums over time points in float64; those of products are of features centred per recording.

    Attributes
    ----------
    xx : Tensor, shape (feature, feature)
        Products of features.
    xy : Tensor, shape (feature, target)
        Products of features and targets.
    x : Tensor, shape (feature,)
        Features, not centred.
    y : Tensor, shape (target,)
        Targets, not centred.
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

    def add_recording(self, features: Tensor, blocks: Iterable[Tensor], where: Any = None) -> None:
        """Add one recording.

        Parameters
        ----------
        features : Tensor, shape (volume, feature)
            Of the whole recording.
        blocks : iterable of Tensor, each (n, target)
            Its targets, in order, some volumes at a time.
        where : object, optional
            The recording, for messages.

        Raises
        ------
        DataError
            If a value is not finite.
        """
        features = features.double()
        centred = features - features.mean(0)
        start = 0
        for block in blocks:
            targets = block.double()
            # Features are centred, so the mean of the targets drops out of the product.
            self.xy.addmm_(centred[start : start + len(block)].T, targets)
            self.y += targets.sum(0)
            start += len(block)
        self.xx.addmm_(centred.T, centred)
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
        Weights of features that are not centred.
    intercept : Tensor, shape (target,), float32
        Makes the mean prediction of the training recordings their mean target.
    penalty : float
        That was chosen.
    penalties, errors : Tensor, shape (penalty,), float64
        All that were tried, and their summed squared error on validation recordings, less the sum
        of squares of the targets: 0 is the error of each recording's mean.
    """

    coefficients: Tensor
    intercept: Tensor
    penalty: float
    penalties: Tensor
    errors: Tensor


def solve_ridge(train: Sums, validation: Sums) -> RidgeSolution:
    """Solve for the penalty that suits validation recordings best; one for all targets.

    Parameters
    ----------
    train, validation : Sums
        Over training and validation recordings.

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
    eigenvalues, vectors = torch.linalg.eigh(train.xx)
    if not eigenvalues[-1] > 0:
        raise DataError(
            "no EEG feature changes over time in the training recordings",
            remedy="check the EEG of the store",
        )
    penalties = PENALTIES.to(eigenvalues) * eigenvalues.mean()
    shrinkage = 1 / (eigenvalues.clamp(min=0) + penalties[:, None])  # (penalty, feature)
    errors = _squared_errors(shrinkage, vectors, train.xy, validation)
    best = int(errors.argmin())
    inverse = vectors * shrinkage[best] @ vectors.T
    # Some targets at a time, so that there is no second matrix of all in float64.
    coefficients = torch.cat(
        [(inverse @ xy).float() for xy in train.xy.split(_TARGETS_AT_ONCE, dim=1)], dim=1
    )
    return RidgeSolution(
        coefficients=coefficients,
        intercept=_intercept(train, inverse),
        penalty=float(penalties[best]),
        penalties=penalties.cpu(),
        errors=errors.cpu(),
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
    shrinkage: Tensor, vectors: Tensor, train_xy: Tensor, validation: Sums
) -> Tensor:
    """Summed squared validation error per penalty, less the constant sum of squares of y.

    With weights W = V D V'X'Y the error is tr(W' Xv'Xv W) - 2 tr(W' Xv'Yv): matrices of features
    squared, whatever the number of targets and time points.
    """
    gram = vectors.T @ validation.xx @ vectors
    products = vectors.T @ (train_xy @ train_xy.T) @ vectors
    cross = ((train_xy @ validation.xy.T @ vectors) * vectors).sum(0)
    return ((shrinkage @ (gram * products)) * shrinkage).sum(1) - 2 * shrinkage @ cross
