"""Where in the brain a model follows the truth: r of each voxel, projected onto three planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eeg2fmri_dist.data.controls import true_eeg
from eeg2fmri_dist.evaluation.baselines.eeg_controls import ChangeEeg, PredictWith
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording
from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, png
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import GRAY
from eeg2fmri_dist.scores.metrics import voxelwise
from eeg2fmri_dist.scores.temporal import DETREND_ORDER

_SMALLEST_SCALE = 0.1
_PLANES = (("from the left", 0), ("from behind", 1), ("from above", 2))
_WIDTH_IN = 6.6


class CorrelationMap:
    """Mean over recordings of each voxel's r, gathered while a model is scored.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Brain voxels.
    """

    def __init__(self, mask: np.ndarray):
        self._mask = mask
        self._found: dict[int, np.ndarray] = {}

    def watching(self, predict: PredictWith) -> PredictWith:
        """Return the same predictor, whose predictions from true EEG are looked at once each."""

        def watched(recording: ScoredRecording, change: ChangeEeg = true_eeg) -> np.ndarray:
            volumes = predict(recording, change)
            start = recording.segment.start
            if change is true_eeg and start not in self._found:
                self._found[start] = voxelwise(volumes, recording.true, self._mask, DETREND_ORDER)[
                    0
                ]
            return volumes

        return watched

    def volume(self) -> np.ndarray:
        """Return the map (x, y, z); 0 outside the mask and before anything was predicted."""
        image = np.zeros(self._mask.shape)
        if self._found:
            image[self._mask] = np.mean(list(self._found.values()), axis=0)
        return image


def project(volume: np.ndarray, axis: int) -> np.ndarray:
    """Return along each line of sight the value farthest from 0, with its sign.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
    axis : int
        Along which one looks.
    """
    farthest = np.abs(volume).argmax(axis=axis, keepdims=True)
    return np.take_along_axis(volume, farthest, axis).squeeze(axis)


def correlation_figure(
    volume: np.ndarray, mask: np.ndarray, voxel_mm: Sequence[float], n_recordings: int
) -> Figure:
    """Draw maximum projections of a map of r, signs kept, in the outline of the brain.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        r of each voxel, RAS+ axes.
    mask : ndarray of bool, shape (x, y, z)
        Brain voxels.
    voxel_mm : sequence of float
        Size of a voxel along x, y and z.
    n_recordings : int
        Over which r was averaged.
    """
    top = max(float(np.percentile(np.abs(volume[mask]), 99.9)), _SMALLEST_SCALE)
    extent_mm = np.array(mask.shape) * voxel_mm
    widths = [extent_mm[1], extent_mm[0], extent_mm[0]]
    height_in = _WIDTH_IN * 0.9 * max(extent_mm[2], extent_mm[1]) / sum(widths)
    with drawing(_WIDTH_IN, height_in) as canvas:
        panels = canvas.subplots(1, 3, width_ratios=widths)
        for axes, (name, axis) in zip(panels, _PLANES, strict=True):
            across, up = (extent for at, extent in enumerate(extent_mm) if at != axis)
            box = (0.0, across, 0.0, up)
            outline = mask.any(axis=axis).T
            image = axes.imshow(
                np.where(outline, project(volume, axis).T, np.nan),
                origin="lower",
                cmap="RdBu_r",
                vmin=-top,
                vmax=top,
                extent=box,
            )
            line = {"colors": GRAY, "linewidths": 1.0, "extent": box, "origin": "lower"}
            axes.contour(outline.astype(float), [0.5], **line)
            axes.set_title(name)
            axes.axis("off")
        bar = add_colorbar(canvas, image, list(panels), shrink=0.8, aspect=14, pad=0.01)
        bar.ax.tick_params(labelsize=7.5, length=2)
        data = png(canvas)
    share = float((volume[mask] > _SMALLEST_SCALE).mean())
    caption = (
        f"r over time of each voxel, mean over {n_recordings} test recordings; along each line of "
        "sight the value farthest from 0, which is never small: compare with the scale, and with "
        f"other models. r is above {_SMALLEST_SCALE} in {100 * share:.0f} % of the brain's voxels."
    )
    alt = "Brain outline seen from the left, from behind and from above, colored by r per voxel."
    return Figure("r of each voxel", caption, alt, data, "image/png", wide=True)
