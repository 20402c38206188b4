"""Ridge regression on band power convolved with the HRF: the bar that networks have to pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.hrf import hrf_basis

PENALTIES = np.logspace(-3, 4, 22)  # in units of the mean variance of a feature

Pair = tuple[np.ndarray, np.ndarray]  # EEG power (volume, channel, frequency), target (volume, k)


@dataclass(frozen=True)
class LaggedRidge:
    """Fitted ridge regression; `vars(ridge)` holds all that rebuilds it.

    Attributes
    ----------
    coefficients : ndarray, shape (feature, k)
        Weights of the features that `lagged_features` makes.
    intercept : ndarray, shape (k,)
        Mean target of the training recordings.
    penalty : float
        Ridge penalty that was chosen.
    frequencies_hz : ndarray, shape (frequency,)
        Frequencies of the EEG power it was fitted on.
    tr_s : float
        Repetition time in s.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    penalty: float
    frequencies_hz: np.ndarray
    tr_s: float

    @classmethod
    def fit(
        cls,
        train: Iterable[Pair],
        validation: Iterable[Pair],
        frequencies_hz: np.ndarray,
        tr_s: float,
    ) -> LaggedRidge:
        """Fit on training recordings, with the penalty that suits validation recordings best.

        Recordings are read once, one at a time; features and targets are centred in each.
        Only sums over time are kept, so memory does not grow with their number.

        Parameters
        ----------
        train, validation : iterable of (ndarray, ndarray)
            Per recording EEG power (volume, channel, frequency), neither logarithmised nor
            normalised, and target (volume, k): regions, tokens or voxels inside the mask.
        frequencies_hz : ndarray, shape (frequency,)
            Frequencies of the power.
        tr_s : float
            Repetition time in s.

        Raises
        ------
        DataError
            If either has no recording, or values are not finite.
        """
        train_sums = _Sums.of(train, frequencies_hz, tr_s)
        validation_sums = _Sums.of(validation, frequencies_hz, tr_s)
        eigenvalues, vectors = np.linalg.eigh(train_sums.xx)
        penalties = PENALTIES * eigenvalues.mean()
        shrinkage = 1 / (eigenvalues.clip(min=0) + penalties[:, None])  # (penalty, feature)

        rotated_xy = vectors.T @ train_sums.xy
        errors = _squared_errors(shrinkage, vectors, rotated_xy, validation_sums)
        best = int(errors.argmin())
        coefficients = vectors @ (shrinkage[best][:, None] * rotated_xy)
        return cls(
            coefficients=coefficients.astype(np.float32),
            intercept=(train_sums.y / train_sums.count).astype(np.float32),
            penalty=float(penalties[best]),
            frequencies_hz=np.asarray(frequencies_hz, dtype=float),
            tr_s=float(tr_s),
        )

    def predict(self, eeg: np.ndarray) -> np.ndarray:
        """Predict the target (volume, k) of a recording from its power, as given to `fit`.

        Raises
        ------
        DataError
            If the recording has another number of channels or frequencies, or is not finite.
        """
        features = lagged_features(eeg, self.frequencies_hz, self.tr_s)
        if features.shape[1] != len(self.coefficients):
            raise DataError(
                f"EEG with {eeg.shape[1]} channels gives {features.shape[1]} features, the ridge "
                f"regression was fitted on {len(self.coefficients)}",
                remedy="use EEG features with the channels and frequencies of the training data",
            )
        return (features.astype(np.float32) @ self.coefficients) + self.intercept


def lagged_features(eeg: np.ndarray, frequencies_hz: np.ndarray, tr_s: float) -> np.ndarray:
    """Return band log power, z-scored in the recording and convolved with the HRF basis.

    Parameters
    ----------
    eeg : ndarray, shape (volume, channel, frequency)
        Power of one whole recording.
    frequencies_hz : ndarray, shape (frequency,)
        Frequencies of the power.
    tr_s : float
        Repetition time in s.

    Returns
    -------
    ndarray, shape (volume, 3 x band x channel), float64
        Centred over the recording.

    Raises
    ------
    DataError
        If there are other frequencies than given, or values are not finite.
    """
    if eeg.shape[2] != len(frequencies_hz):
        raise DataError(f"EEG has {eeg.shape[2]} frequencies, {len(frequencies_hz)} were expected")
    if not np.isfinite(eeg).all():
        raise DataError("EEG power holds values that are not finite")
    bands = np.concatenate([eeg[..., band].mean(-1) for band in _bands(frequencies_hz)], axis=1)
    log_power = np.log(np.maximum(bands.astype(np.float64), np.finfo(np.float32).tiny))
    centred = log_power - log_power.mean(0)
    deviation = centred.std(0)
    constant = deviation < 1e-9  # a dead channel tells nothing
    z_scored = np.where(constant, 0, centred / np.where(constant, 1, deviation))
    convolved = [lfilter(kernel, 1, z_scored, axis=0) for kernel in hrf_basis(tr_s)]
    features = np.concatenate(convolved, axis=1)
    return features - features.mean(0)


def _bands(frequencies_hz: np.ndarray) -> list[np.ndarray]:
    """Masks of the frequencies of each band that has any; the last band includes its end."""
    edges = list(BANDS_HZ.values())
    masks = [(frequencies_hz >= low) & (frequencies_hz < high) for low, high in edges]
    masks[-1] |= frequencies_hz == edges[-1][1]
    return [mask for mask in masks if mask.any()]


@dataclass
class _Sums:
    """Sums over the time points of recordings, each centred, in float64."""

    xx: np.ndarray  # (feature, feature)
    xy: np.ndarray  # (feature, k)
    y: np.ndarray  # (k,), not centred
    count: int

    @classmethod
    def of(cls, pairs: Iterable[Pair], frequencies_hz: np.ndarray, tr_s: float) -> _Sums:
        total: _Sums | None = None
        for eeg, target in pairs:
            features = lagged_features(eeg, frequencies_hz, tr_s)
            if not np.isfinite(target).all():
                raise DataError("target of the ridge regression holds values that are not finite")
            # Features are centred, so the mean of the target drops out of xy.
            part = cls(features.T @ features, features.T @ target, target.sum(0), len(target))
            total = part if total is None else total._add(part)
        if total is None:
            raise DataError(
                "ridge regression needs training and validation recordings, one has none",
                remedy="check the split",
            )
        return total

    def _add(self, other: _Sums) -> _Sums:
        self.xx += other.xx
        self.xy += other.xy
        self.y += other.y
        self.count += other.count
        return self


def _squared_errors(
    shrinkage: np.ndarray, vectors: np.ndarray, rotated_xy: np.ndarray, validation: _Sums
) -> np.ndarray:
    """Summed squared validation error per penalty, less the constant sum of squares of y.

    With weights W = V D V'X'Y the error is tr(W' Xv'Xv W) - 2 tr(W' Xv'Yv): matrices of features
    squared, whatever the number of targets and time points.
    """
    gram = vectors.T @ validation.xx @ vectors
    targets = rotated_xy @ rotated_xy.T
    quadratic = np.einsum("pi,ij,pj->p", shrinkage, gram * targets, shrinkage, optimize=True)
    cross = (rotated_xy * (vectors.T @ validation.xy)).sum(1)
    return quadratic - 2 * shrinkage @ cross
