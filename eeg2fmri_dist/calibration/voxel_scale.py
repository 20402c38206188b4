"""How much more or less each voxel of a subject changes than in the training subjects."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, polygamma

from eeg2fmri_dist.scores.temporal import detrend

FEWEST_VOLUMES = 5
_DETREND_ORDER = 1


def voxel_scale(scan: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Return what each voxel's predicted change is to be multiplied by for the subject of a scan.

    A standard deviation over a few dozen volumes is mostly noise. What of it is the subject's is
    estimated from the scan itself: logarithms of standard deviations scatter over voxels by more
    than their sampling error; each is drawn toward the mean of all voxels by the share that
    sampling has.

    Parameters
    ----------
    scan : ndarray of shape (volume, x, y, z)
        BOLD of the subject.
    fraction : ndarray of shape (x, y, z)
        Temporal standard deviation / mean in the training subjects (`Scaling.fraction`); 0 outside
        the brain.

    Returns
    -------
    ndarray of shape (x, y, z), float32
        1 where nothing is known, and everywhere for scans of fewer than `FEWEST_VOLUMES`.

    Notes
    -----
    Empirical Bayes estimation of many variances: Smyth, Statistical Applications in Genetics and
    Molecular Biology 3, 2004, section 6, with the subject's own mean as the prior. Autocorrelation
    leaves fewer degrees of freedom, (1 - r^2) / (1 + r^2) of them for r at lag 1 (Bartlett).
    """
    scale = np.ones(fraction.shape, dtype=np.float32)
    mean = scan.mean(axis=0)
    straight = detrend(scan.reshape(len(scan), -1), _DETREND_ORDER).reshape(scan.shape)
    residual = straight - straight.mean(axis=0)
    squares = np.square(residual, dtype=np.float64).sum(axis=0)
    known = (fraction > 0) & (mean > 0) & (squares > 0)
    if len(scan) < FEWEST_VOLUMES or not known.any():
        return scale
    degrees = _degrees_of_freedom(residual[:, known])
    variance = squares[known] / (len(scan) - 1 - _DETREND_ORDER)
    bias = (digamma(degrees / 2) - np.log(degrees / 2)) / 2
    logs = np.log(np.sqrt(variance) / mean[known] / fraction[known]) - bias
    sampling = polygamma(1, degrees / 2) / 4
    own = max(logs.var() - sampling, 0.0) / logs.var()
    scale[known] = np.exp(logs.mean() + own * (logs - logs.mean()))
    return scale


def _degrees_of_freedom(residual: np.ndarray) -> float:
    """Of the variance of autocorrelated series (volume, voxel), the same for all voxels."""
    n_volumes = len(residual)
    products = (residual[1:] * residual[:-1]).sum(axis=0) / np.square(residual).sum(axis=0)
    r = float(np.clip(products.mean(), 0.0, 0.9))
    return (n_volumes - 1 - _DETREND_ORDER) * (1 - r**2) / (1 + r**2)
