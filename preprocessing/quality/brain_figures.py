"""Slices of brains: registration overlays and the map of tSNR."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from eeg2fmri_dist.pages.drawing import drawing, webp
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import CONTOUR, DARK, INNER_CONTOUR, ON_DARK
from preprocessing.quality.page_evidence import Evidence
from preprocessing.template.mni import load_brain_mask, load_template

# MNI mm of the slices; the last one of a row is the most superior, anterior or right.
_SLICES_MM = {
    2: (-32, -20, -8, 4, 16, 30, 44, 58),
    1: (-86, -66, -46, -26, -6, 14, 34, 54),
    0: (-52, -36, -20, -4, 6, 20, 36, 52),
}
_PLANES = {2: "z", 1: "y", 0: "x"}
_LIMITS_MM = ((-78, 78), (-112, 80), (-66, 86))
# Template brightness between CSF and gray matter, and between gray and white matter.
_TEMPLATE_LEVELS = (4300.0, 7000.0)


def template_on_epi(epi: np.ndarray) -> Figure:
    """Mean EPI (91, 109, 91) on the template, with the contours of the template."""
    template, mask = _template()
    return Figure(
        "Mean EPI with the template's contours",
        "Blue: edge of the template's brain. Orange: its borders of ventricles and white matter. "
        "They should follow the edge of this brain and its bright ventricles; the front of the "
        "orbits and the ear canals may be dark.",
        "Slices of the mean EPI in three planes with contours of the MNI152 template.",
        _overlay(epi, mask, np.where(mask, template, 0), _TEMPLATE_LEVELS),
        "image/webp",
        name="template-on-epi",
    )


def epi_on_template(epi: np.ndarray, epi_mask: np.ndarray) -> Figure:
    """Template with the contours of the mean EPI and of the brain found in it."""
    template, _ = _template()
    brain = np.where(epi_mask, epi, 0).astype(np.float32)
    inside = brain[epi_mask]
    level = float(np.percentile(inside, 88)) if inside.size else 1.0
    return Figure(
        "Template with the EPI's contours",
        "Blue: edge of the brain found in the EPI. Orange: the EPI's brightest eighth, mostly CSF. "
        "The edge should lie on the template's cortex, the bright parts in its dark ventricles.",
        "Slices of the MNI152 template in three planes with contours of the mean EPI.",
        _overlay(template, epi_mask, brain, (level,)),
        "image/webp",
        name="epi-on-template",
    )


def tsnr(evidence: Evidence) -> Figure:
    """Temporal signal-to-noise ratio on axial slices of the store's grid."""
    values = evidence.tsnr.astype(np.float32)
    inside = values[values > 0]
    top = float(np.percentile(inside, 98)) if inside.size else 1.0
    areas = (values > 0).sum(axis=(0, 1))
    levels = np.flatnonzero(areas > 0.1 * areas.max())
    chosen = levels[np.linspace(0, len(levels) - 1, 14).astype(int)] if len(levels) else []
    within = tuple(_range(np.any(values > 0, axis=(1 - axis, 2))) for axis in (0, 1))
    spacing = np.abs(np.diag(evidence.grid_affine)[:3])
    with drawing(9.6, 3.35, None) as canvas:
        grid = canvas.subplots(2, 7, gridspec_kw=_tight(0.93, wspace=0.02, hspace=0.02))
        shown = None
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, level in zip(grid.flat, chosen, strict=False):
            picture = values[*within, level]
            picture = np.where(picture > 0, picture, np.nan)
            shown = axes.imshow(
                picture.T, origin="lower", cmap="viridis", vmin=0, vmax=top,
                aspect=spacing[1] / spacing[0], interpolation="nearest",
            )  # fmt: skip
            mm = evidence.grid_affine[2, 3] + level * spacing[2]
            _label(axes, f"z = {mm:.0f}")
        if shown is not None:
            bar = canvas.colorbar(shown, cax=canvas.add_axes((0.945, 0.12, 0.012, 0.76)))
            bar.ax.tick_params(colors=ON_DARK, labelsize=8)
            bar.outline.set_visible(False)
        data = webp(canvas, DARK)
    median = float(np.median(inside)) if inside.size else 0.0
    return Figure(
        "Temporal signal-to-noise ratio",
        f"Mean over standard deviation over time, without linear trend; median {median:.0f}. Low "
        "near sinuses, ears and large vessels; dark stripes or patches elsewhere are faults.",
        f"Axial slices of the temporal signal-to-noise ratio, median {median:.0f}.",
        data,
        "image/webp",
        name="tsnr",
    )


def _range(occupied: Any) -> slice:
    """From one before the first to one after the last place that is occupied."""
    places = np.flatnonzero(occupied)
    return slice(max(0, places[0] - 1), places[-1] + 2) if len(places) else slice(None)


@lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, np.ndarray]:
    """Template and its brain mask without the holes that it has where the ventricles are."""
    from scipy.ndimage import binary_closing, binary_fill_holes

    mask = np.asarray(load_brain_mask().dataobj) > 0
    whole = binary_fill_holes(binary_closing(mask, iterations=4))
    return np.asarray(load_template().dataobj, dtype=np.float32), whole


def _overlay(
    background: np.ndarray, mask: np.ndarray, inner: np.ndarray, levels: tuple[float, ...]
) -> bytes:
    """Three rows of slices (axial, coronal, sagittal) with two kinds of contours."""
    from scipy.ndimage import gaussian_filter

    edge = gaussian_filter(mask.astype(np.float32), 1.0)
    smooth = gaussian_filter(inner.astype(np.float32), 1.0)
    top = float(np.percentile(background[background > 0], 99.5)) if background.any() else 1.0
    heights = [_extent(plane)[1] / _extent(plane)[0] for plane in _SLICES_MM]
    with drawing(12.0, 12.0 / 8 * sum(heights), None) as canvas:
        ratios = {**_tight(1.0, wspace=0, hspace=0.01), "height_ratios": heights}
        # One drawing a row: one for each slice takes twice as long.
        rows = canvas.subplots(3, 1, gridspec_kw=ratios)
        for axes, (plane, positions) in zip(rows, _SLICES_MM.items(), strict=True):
            axes.imshow(
                _row(background, plane), cmap="gray", vmin=0, vmax=top, origin="lower",
                interpolation="bilinear",
            )  # fmt: skip
            _contours(axes, _row(edge, plane), (0.5,), CONTOUR, 0.8)
            _contours(axes, _row(smooth, plane), levels, INNER_CONTOUR, 0.45)
            for number, mm in enumerate(positions):
                _label(axes, f"{_PLANES[plane]} = {mm}", (number + 0.03) / len(positions))
            axes.set_axis_off()
        return webp(canvas, DARK)


def _row(volume: np.ndarray, plane: int) -> np.ndarray:
    """The slices of a plane side by side, NaN between them so that no contour joins two."""
    slices = [_slice(volume, plane, mm).astype(np.float32) for mm in _SLICES_MM[plane]]
    return np.concatenate(
        [np.pad(each, ((0, 0), (0, 1)), constant_values=np.nan) for each in slices], axis=1
    )


def _contours(
    axes: Axes, picture: np.ndarray, levels: tuple[float, ...], color: str, width: float
) -> None:
    within = [level for level in levels if np.nanmin(picture) < level < np.nanmax(picture)]
    if within:
        axes.contour(picture, levels=within, colors=color, linewidths=width)


def _slice(volume: np.ndarray, plane: int, mm: float) -> np.ndarray:
    """One slice of a volume on the template, cropped to the head; rows upwards or to the front."""
    affine = load_template().affine
    bounds = []
    for axis, (low, high) in enumerate(_LIMITS_MM):
        first, last = ((value - affine[axis, 3]) / affine[axis, axis] for value in (low, high))
        bounds.append(slice(round(first), round(last)))
    cropped = volume[tuple(bounds)]
    position = round((mm - _LIMITS_MM[plane][0]) / affine[plane, plane])
    return np.take(cropped, position, axis=plane).T


def _extent(plane: int) -> tuple[float, float]:
    """Width and height in mm of a slice across an axis."""
    spans = [high - low for axis, (low, high) in enumerate(_LIMITS_MM) if axis != plane]
    return spans[0], spans[1]


def _tight(right: float, wspace: float, hspace: float) -> dict[str, Any]:
    return {
        "left": 0.0, "right": right, "bottom": 0.0, "top": 1.0, "wspace": wspace, "hspace": hspace
    }  # fmt: skip


def _label(axes: Axes, text: str, left: float = 0.03) -> None:
    axes.text(left, 0.03, text, transform=axes.transAxes, color=ON_DARK, fontsize=7)
