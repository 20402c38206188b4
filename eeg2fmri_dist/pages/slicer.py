"""Slices of a predicted recording that the report moves through time.

Each view is one strip of frames side by side; the page slides the strip behind a window one frame
wide. That needs no drawing in the page and no data beside it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.pages.figure import Figure

MAX_FRAMES = 30
SLICES = 2
LEVELS = 48
# Name, axis across which it cuts, axes shown to the right and up.
_PLANES = (("Axial", 2, (0, 1)), ("Coronal", 1, (0, 2)), ("Sagittal", 0, (1, 2)))


@dataclass(frozen=True)
class Plane:
    """One strip for each kind of volume in one plane.

    Attributes
    ----------
    name : str
        Of the plane.
    aspect : float
        Width / height of a frame.
    strips : sequence of Figure
        Frames side by side: true, predicted and difference, or what there is of these.
    """

    name: str
    aspect: float
    strips: Sequence[Figure]


@dataclass(frozen=True)
class Slicer:
    """What the slider moves.

    Attributes
    ----------
    frames : sequence of str
        Label of each frame: volume and time.
    limit_percent : float
        End of the color scale, in percent change from the recording's mean.
    planes : sequence of Plane
        To choose from.
    text : str
        Whose recording it is.
    """

    frames: Sequence[str]
    limit_percent: float
    planes: Sequence[Plane]
    text: str


def make_slicer(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    voxel_mm: Sequence[float],
    tr_s: float,
    text: str = "",
) -> Slicer:
    """Cut strips of percent change from the mean over time, on one color scale.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        One recording, in units of the store.
    mask : ndarray of bool, shape (x, y, z)
        Brain voxels; the others are transparent.
    voxel_mm : sequence of float
        Size of a voxel along x, y, z.
    tr_s : float
        Repetition time in s.
    text : str
        Whose recording it is.

    Returns
    -------
    Slicer
        Up to 30 frames, spread evenly over the recording.
    """
    times = np.unique(np.linspace(0, len(true) - 1, min(MAX_FRAMES, len(true))).round().astype(int))
    cuts = _cut(mask)
    of_true, of_predicted = (
        {name: cut.change(volumes, times) for name, cut in cuts.items()}
        for volumes in (true, predicted)
    )
    limit = _limit(of_true)
    planes = [
        cut.plane(
            name,
            {
                "True": of_true[name],
                "Predicted": of_predicted[name],
                "Difference": of_predicted[name] - of_true[name],
            },
            limit,
            voxel_mm,
        )
        for name, cut in cuts.items()
    ]
    frames = [f"volume {at + 1} of {len(true)}, {at * tr_s:.0f} s" for at in times]
    return Slicer(frames, limit, planes, text)


def slice_frames(
    frames: np.ndarray,
    mean: np.ndarray,
    mask: np.ndarray,
    voxel_mm: Sequence[float],
    labels: Sequence[str],
    text: str = "",
) -> Slicer:
    """Cut strips of a run without a truth: percent change from its mean over time.

    Parameters
    ----------
    frames : ndarray of shape (frame, x, y, z)
        Chosen volumes.
    mean : ndarray of shape (x, y, z)
        Of all volumes.
    mask, voxel_mm, text
        As in `make_slicer`.
    labels : sequence of str
        Of the frames.
    """
    cuts = _cut(mask)
    changes = {
        name: cut.percent(cut.of(frames), cut.of(mean[None])[0]) for name, cut in cuts.items()
    }
    limit = _limit(changes)
    planes = [
        cut.plane(name, {"Predicted": changes[name]}, limit, voxel_mm) for name, cut in cuts.items()
    ]
    return Slicer(labels, limit, planes, text)


@dataclass(frozen=True)
class _PlaneCut:
    """Where a plane cuts the brain: positions along `axis`, the extent along the two others."""

    axis: int
    positions: np.ndarray
    window: tuple[slice, ...]
    mask: np.ndarray  # (right, up) of all slices side by side

    @classmethod
    def through(cls, mask: np.ndarray, axis: int, shown: tuple[int, int]) -> _PlaneCut:
        """Cut at even distances through the brain."""
        extents = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {at}))) for at in range(3)]
        low, high = extents[axis][[0, -1]]
        positions = np.linspace(low, high, SLICES + 2).round().astype(int)[1:-1]
        window = tuple(slice(max(extents[at][0] - 1, 0), extents[at][-1] + 2) for at in shown)
        return cls(axis, positions, window, _side_by_side(mask[None], axis, positions, window)[0])

    def change(self, volumes: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Percent change from the mean over time, (frame, right, up); 0 outside the brain."""
        cut = self.of(volumes)
        return self.percent(cut[times], cut.mean(axis=0))

    def of(self, volumes: np.ndarray) -> np.ndarray:
        """Slices of volumes, (volume, right, up)."""
        return _side_by_side(volumes, self.axis, self.positions, self.window).astype(np.float64)

    def percent(self, slices: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Percent change of slices from their mean; 0 outside the brain."""
        change = 100.0 * (slices - mean)
        return np.divide(change, mean, out=np.zeros_like(change), where=self.mask & (mean > 0))

    def plane(
        self,
        name: str,
        changes: Mapping[str, np.ndarray],
        limit: float,
        voxel_mm: Sequence[float],
    ) -> Plane:
        """Draw a strip of each change (frame, right, up), by title."""
        strips = [
            Figure(
                title,
                "",
                f"{title}: {name.lower()} slices over time.",
                self.png(change, limit),
                "image/png",
            )
            for title, change in changes.items()
        ]
        return Plane(name, self.aspect(voxel_mm), strips)

    def png(self, change: np.ndarray, limit: float) -> bytes:
        """Color a change (frame, right, up); a palette keeps the file small."""
        from matplotlib import colormaps
        from PIL import Image

        level = np.rint((np.clip(change / limit, -1, 1) + 1) / 2 * (LEVELS - 1)).astype(np.uint8)
        index = np.where(self.mask, level + 1, 0).astype(np.uint8)
        # Image rows go down, (frame, right, up) goes up.
        image = Image.fromarray(np.concatenate(index.transpose(0, 2, 1)[:, ::-1], axis=1), "P")
        colors = colormaps["RdBu_r"](np.linspace(0, 1, LEVELS))[:, :3]
        image.putpalette([0, 0, 0, *np.rint(255 * colors).astype(int).ravel().tolist()])
        buffer = io.BytesIO()
        image.save(buffer, "png", transparency=0, optimize=True)
        return buffer.getvalue()

    def aspect(self, voxel_mm: Sequence[float]) -> float:
        """Width / height of a frame in mm."""
        right, up = [at for at in range(3) if at != self.axis]
        width, height = self.mask.shape
        return width * voxel_mm[right] / (height * voxel_mm[up])


def _cut(mask: np.ndarray) -> dict[str, _PlaneCut]:
    """Cut the brain in every plane."""
    return {name: _PlaneCut.through(mask, axis, shown) for name, axis, shown in _PLANES}


def _limit(changes: Mapping[str, np.ndarray]) -> float:
    """End of the color scale: nearly all of each plane's change lies within it."""
    return max(float(np.percentile(np.abs(change), 99)) for change in changes.values()) or 1.0


def _side_by_side(
    volumes: np.ndarray, axis: int, positions: np.ndarray, window: tuple[slice, ...]
) -> np.ndarray:
    """Slices of volumes (volume, x, y, z), one right of the other: (volume, right, up)."""
    slices = [volumes.take(at, axis + 1)[:, window[0], window[1]] for at in positions]
    return np.concatenate(slices, axis=1)
