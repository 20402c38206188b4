"""Structural similarity (SSIM) of volumes, in slices or in three dimensions.

Wang et al., IEEE Transactions on Image Processing 13(4), 2004: Gaussian window of sigma 1.5 and
radius 5 voxels, K1 = 0.01, K2 = 0.03.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def ssim_2d(
    predicted: np.ndarray, true: np.ndarray, data_range: float, mask: np.ndarray | None = None
) -> float:
    """Structural similarity with an 11 x 11 Gaussian window in axial slices, mean over volumes.

    Wang et al. 2004 (sigma 1.5, K1 = 0.01, K2 = 0.03); scikit-image's
    ``structural_similarity(..., gaussian_weights=True, use_sample_covariance=False)`` of each
    slice gives the same.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        Same unit.
    data_range : float
        Largest minus smallest value that the data can take, in that unit.
    mask : ndarray of bool, shape (x, y, z), optional
        Average the map over these voxels. Without it: over all whose window lies inside the grid,
        as scikit-image does (the map at the border sees reflected voxels).

    Returns
    -------
    float
        NaN without a mask on a grid smaller than the window.
    """
    return _ssim(predicted, true, data_range, mask, dimensions=2)


def ssim_3d(
    predicted: np.ndarray, true: np.ndarray, data_range: float, mask: np.ndarray | None = None
) -> float:
    """Structural similarity with an 11 x 11 x 11 Gaussian window; otherwise as `ssim_2d`."""
    return _ssim(predicted, true, data_range, mask, dimensions=3)


def ssim_map(
    predicted: np.ndarray, true: np.ndarray, data_range: float, dimensions: Literal[2, 3]
) -> np.ndarray:
    """Structural similarity around each voxel, (volume, x, y, z), float64."""
    predicted, true = predicted.astype(np.float64), true.astype(np.float64)
    mean_p, mean_t = _smooth(predicted, dimensions), _smooth(true, dimensions)
    var_p = _smooth(predicted * predicted, dimensions) - mean_p * mean_p
    var_t = _smooth(true * true, dimensions) - mean_t * mean_t
    covariance = _smooth(predicted * true, dimensions) - mean_p * mean_t
    c1, c2 = _C1 * data_range**2, _C2 * data_range**2
    likeness = (2 * mean_p * mean_t + c1) * (2 * covariance + c2)
    return likeness / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2))


def _ssim(
    predicted: np.ndarray,
    true: np.ndarray,
    data_range: float,
    mask: np.ndarray | None,
    dimensions: Literal[2, 3],
) -> float:
    """Mean over volumes, one at a time."""
    scores = []
    for index in range(len(true)):
        volume = slice(index, index + 1)
        similarity = ssim_map(predicted[volume], true[volume], data_range, dimensions)
        scores.append(
            interior_mean(similarity, dimensions) if mask is None else similarity[:, mask].mean()
        )
    return float(np.mean(scores))


def interior_mean(similarity: np.ndarray, dimensions: int) -> np.ndarray:
    """Return each volume's mean over voxels whose window lies inside the grid; NaN if none does.

    Parameters
    ----------
    similarity : ndarray of shape (volume, x, y, z)
        Of `ssim_map`.
    dimensions : int
        Of its window.
    """
    inside = slice(_RADIUS, -_RADIUS)
    interior = similarity[:, inside, inside, inside if dimensions == 3 else slice(None)]
    if interior[0:1].size == 0:
        return np.full(len(similarity), np.nan)
    return interior.mean(axis=(1, 2, 3))


def _smooth(volumes: np.ndarray, dimensions: int) -> np.ndarray:
    """Gaussian window along x, y (and z) as products with small matrices: many times faster."""
    count, size_x, size_y, size_z = volumes.shape
    along_x = _gaussian(size_x) @ volumes.reshape(count, size_x, size_y * size_z)
    along_y = _gaussian(size_y) @ along_x.reshape(count * size_x, size_y, size_z)
    smoothed = along_y if dimensions == 2 else along_y @ _gaussian(size_z).T
    return smoothed.reshape(volumes.shape)


def _gaussian(size: int) -> np.ndarray:
    """Matrix that filters a line of voxels, borders reflected."""
    return gaussian_filter1d(np.eye(size), _SIGMA, axis=0, mode="reflect", radius=_RADIUS)
