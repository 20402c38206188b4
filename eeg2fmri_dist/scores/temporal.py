"""Time courses of prediction and truth: trend, Pearson r, standard-deviation ratio.

Series are arrays with time first, (volume, ...), in any unit. A series whose deviations are
float32 rounding counts as constant; its r with anything is 0 by convention, so that a prediction
that never changes scores 0 and not NaN.
"""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.data.normalization import polynomial_basis

# Before any score of time courses, prediction and truth are detrended by a polynomial of this
# degree, whatever the targets of a training were detrended by: scores of all models compare.
DETREND_ORDER = 1

_ROUNDING = float(np.finfo(np.float32).eps)


def detrend(series: np.ndarray, order: int) -> np.ndarray:
    """Remove polynomials of degree 1 to `order` from each series; the mean stays.

    Scanner drift and drying electrodes both drift: without this a trend in the truth hides what a
    detrended prediction gets right, and a trend in both looks like skill.

    Parameters
    ----------
    series : ndarray of shape (volume, ...)
        Time courses.
    order : int
        Highest degree; 0 removes nothing.

    Returns
    -------
    ndarray of shape (volume, ...), float64
    """
    values = np.asarray(series, dtype=np.float64)
    basis = polynomial_basis(len(values), order)[:, 1:]
    left = values - np.tensordot(basis, np.tensordot(basis.T, values, axes=1), axes=1)
    mean = left.mean(axis=0)
    changes = np.sqrt(((left - mean) ** 2).mean(axis=0)) > _ROUNDING * np.abs(values).max(axis=0)
    return np.where(changes, left, mean)


def unit_series(series: np.ndarray) -> np.ndarray:
    """Return each series with mean 0 and sum of squares 1; a constant one becomes 0."""
    values = np.asarray(series, dtype=np.float64)
    centered = values - values.mean(axis=0)
    norm = np.sqrt((centered**2).sum(axis=0))
    smallest = _ROUNDING * np.abs(values).max(axis=0) * np.sqrt(len(values))
    return np.divide(centered, norm, out=np.zeros_like(centered), where=norm > smallest)


def temporal_correlation(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Pearson r over time of each series with its counterpart.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, ...)
        Time courses.

    Returns
    -------
    ndarray of shape (...)
        r in [-1, 1]; 0 where either series is constant.
    """
    return np.clip((unit_series(predicted) * unit_series(true)).sum(axis=0), -1.0, 1.0)


def explained_variance(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Share of each series' variance over time that a prediction takes away.

    ``1 - var(true - predicted) / var(true)``, as scikit-learn's ``explained_variance_score``.
    Unlike r it minds the amplitude: below 0 a constant image would have been nearer.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, ...)
        Time courses in the same unit.

    Returns
    -------
    ndarray of shape (...)
        At most 1; 0 where the truth is constant.
    """
    changing = unit_series(true).any(axis=0)
    left = np.var(np.subtract(true, predicted, dtype=np.float64), axis=0)
    variance = np.where(changing, np.var(true, axis=0, dtype=np.float64), 1.0)
    return np.where(changing, 1.0 - left / variance, 0.0)


def without_global(series: np.ndarray) -> np.ndarray:
    """Remove from each series what follows the mean over all series (global signal regression).

    Breathing, movement and vigilance change the BOLD of the whole brain and show in the EEG as
    well. What is left after this cannot come from them alone. Some neural signal is global, too,
    and is removed with them: compare with the score of the whole series, not with 1.

    Parameters
    ----------
    series : ndarray of shape (volume, series)
        Time courses, detrended; their means stay.

    Returns
    -------
    ndarray of shape (volume, series), float64
        A series that is nothing but the global signal becomes constant.
    """
    values = np.asarray(series, dtype=np.float64)
    mean = values.mean(axis=0)
    centered = values - mean
    course = unit_series(centered.mean(axis=1))
    left = centered - np.outer(course, course @ centered)
    changes = np.sqrt((left**2).mean(axis=0)) > _ROUNDING * np.abs(values).max(axis=0)
    return np.where(changes, left, 0.0) + mean


def temporal_std_ratio(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean over series of standard deviation over time, prediction / truth.

    0 = the model emits one constant image; 1 = it changes as much as the truth; far above 1 = it
    wanders. Series that are constant in the truth are left out; NaN if all are.
    """
    changing = unit_series(true).any(axis=0)
    if not changing.any():
        return float("nan")
    predicted_std = np.std(predicted, axis=0, dtype=np.float64)[changing]
    return float(np.mean(predicted_std / np.std(true, axis=0, dtype=np.float64)[changing]))


def spectral_coherence(predicted: np.ndarray, true: np.ndarray, segment: int = 32) -> float:
    """Mean over series and frequencies of the magnitude-squared coherence.

    Unlike r it forgives a delay, and a sign. Welch's estimate with half-overlapping Hann windows of
    `segment` volumes; with K windows unrelated series have about 1 / K, so it means something only
    beside the same number for circularly shifted EEG. Constant series count 0.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, series)
        Time courses, detrended.
    segment : int
        Volumes of a window; at most half of the recording is used.

    Returns
    -------
    float
        In [0, 1]; NaN below 8 volumes.
    """
    if min(segment, len(true) // 2) < 4:
        return float("nan")
    return float(coherence_by_frequency(predicted, true, segment).mean())


def coherence_by_frequency(
    predicted: np.ndarray, true: np.ndarray, segment: int = 32
) -> np.ndarray:
    """Return the coherence of each series, (frequency, series), from the first frequency above 0.

    Frequency 0 is the mean, which the detrending of Welch's windows takes away. See
    `spectral_coherence`.
    """
    from scipy import signal

    pair = unit_series(predicted), unit_series(true)
    options = {"nperseg": min(segment, len(true) // 2), "axis": 0}
    cross = signal.csd(*pair, **options)[1]
    powers = [signal.welch(series, **options)[1] for series in pair]
    product = powers[0] * powers[1]
    coherence = np.divide(
        np.abs(cross) ** 2, product, out=np.zeros_like(product), where=product > 0
    )
    return coherence[1:]
