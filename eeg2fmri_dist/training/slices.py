"""Pictures of volumes: slices in three planes."""

from __future__ import annotations

import numpy as np

_GAP = 2  # pixels between a true and a predicted slice


def middle_slices(volume: np.ndarray) -> dict[str, np.ndarray]:
    """Return the middle slice of each plane, as seen on a screen.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        RAS+ axes.

    Returns
    -------
    dict
        ``axial``, ``coronal`` and ``sagittal`` pictures (row, column): the subject's left is on
        the left, anterior or superior is up (sagittal: anterior is on the right).
    """
    x, y, z = (size // 2 for size in volume.shape)
    planes = {"axial": volume[:, :, z], "coronal": volume[:, y], "sagittal": volume[x]}
    return {name: plane.T[::-1] for name, plane in planes.items()}


def compare_slices(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Return pictures (row, column) in [0, 1]: true slice, gap, predicted slice, by plane.

    Both are shown with one grey scale, from the 1st to the 99th percentile of the true volume.

    Parameters
    ----------
    truth, predicted : ndarray of shape (x, y, z)
        RAS+ axes.
    """
    low, high = np.percentile(truth, [1, 99])
    pictures = {}
    both = middle_slices(truth), middle_slices(predicted)
    for plane in both[0]:
        true, guess = (
            np.clip((slices[plane] - low) / max(high - low, 1e-9), 0, 1) for slices in both
        )
        pictures[plane] = np.hstack([true, np.ones((len(true), _GAP)), guess])
    return pictures
