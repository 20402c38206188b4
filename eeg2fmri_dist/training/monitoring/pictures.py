"""Pictures of BOLD while a model trains: slices, regional curves, correlation matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eeg2fmri_dist.scores.networks import correlation_matrix

_REGIONS = 4
_CELL = 4  # pixels of a matrix element
_MATRIX_GAP = 8  # pixels between matrices
_SLICE_GAP = 2  # pixels between a true and a predicted slice


def curve_picture(
    true: np.ndarray, predicted: np.ndarray, names: Sequence[str], tr_s: float
) -> np.ndarray:
    """Draw true (gray) and predicted (blue) percent change of a few regions.

    Parameters
    ----------
    true, predicted : ndarray of shape (volume, region)
        Regional means, detrended. Regions are chosen evenly over their list, not by their score.
    names : sequence of str
        Of the regions.
    tr_s : float
        Repetition time in s.

    Returns
    -------
    ndarray of shape (row, column, 3), uint8
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from eeg2fmri_dist.pages.drawing import drawing
    from eeg2fmri_dist.pages.style import BLUE, GRAY

    chosen = np.unique(np.linspace(0, len(names) - 1, _REGIONS).round().astype(int))
    times_s = np.arange(len(true)) * tr_s
    with drawing(7.0, 1.3 * len(chosen)) as figure:
        panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
        for axes, region in zip(panels, chosen, strict=True):
            axes.plot(times_s, _percent(true[:, region]), color=GRAY, label="measured")
            axes.plot(times_s, _percent(predicted[:, region]), color=BLUE, label="predicted")
            axes.set_title(names[region])
        panels[0].legend(loc="upper right", ncols=2, fontsize=7)
        panels[-1].set_xlabel("s")
        figure.supylabel("percent change", fontsize=8)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def matrix_picture(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Show the correlation matrix of true regions, of predicted ones, and half their difference.

    Blue is -1, white 0, red 1.

    Parameters
    ----------
    true, predicted : ndarray of shape (volume, region)
        Regional means, detrended.

    Returns
    -------
    ndarray of shape (row, column, 3), uint8
    """
    of_true, of_predicted = correlation_matrix(true), correlation_matrix(predicted)
    parts = [of_true, of_predicted, (of_predicted - of_true) / 2]
    pictures = [_colored(np.kron(part, np.ones((_CELL, _CELL)))) for part in parts]
    gap = np.full((len(pictures[0]), _MATRIX_GAP, 3), 255, np.uint8)
    return np.hstack([pictures[0], gap, pictures[1], gap, pictures[2]])


def _colored(values: np.ndarray) -> np.ndarray:
    """From blue over white to red, (row, column) in [-1, 1] -> (row, column, 3) uint8."""
    strength = np.clip(np.abs(values), 0, 1)[..., None]
    color = np.where(values[..., None] < 0, (33, 102, 172), (178, 24, 43))
    return (255 + strength * (color - 255)).round().astype(np.uint8)


def _percent(series: np.ndarray) -> np.ndarray:
    mean = series.mean()
    return 100 * (series / mean - 1) if mean else series - mean


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

    Both are shown with one gray scale, from the 1st to the 99th percentile of the true volume.

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
        pictures[plane] = np.hstack([true, np.ones((len(true), _SLICE_GAP)), guess])
    return pictures
