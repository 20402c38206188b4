"""Figures of the report, drawn without a display, each with alternative text.

Axial slices are shown as the subject is: left is left, front is up.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, png, svg
from eeg2fmri_dist.pages.figure import Curve, Figure
from eeg2fmri_dist.pages.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE, PALE_GREY, PALE_ORANGE
from eeg2fmri_dist.scores.networks import correlation_matrix, matrix_similarity
from eeg2fmri_dist.scores.temporal import temporal_correlation

COLOURS = {
    "eeg_only": BLUE,
    "shifted": GRAY,
    "ridge_shifted": GRAY,
    "zero": PALE_GREY,
    "teacher_forced": ORANGE,
    "teacher_forced_shifted": PALE_ORANGE,
    "reconstruction": ORANGE,
}
# A longer heading would leave no room for the scores beside it.
_TITLE_COLUMNS = 30


@dataclass(frozen=True)
class ChartGroup:
    """Rows of a score chart under one heading."""

    title: str
    rows: Sequence[ScoreRow]


def learning_curve(curve: Curve, chosen_epoch: float | None = None) -> Figure:
    """One quantity over epochs, training and validation; a line marks the chosen checkpoint."""
    with drawing(3.6, 2.5) as canvas:
        axes = canvas.subplots()
        for points, color, label in (
            (curve.train, GRAY, "training"),
            (curve.validation, BLUE, "validation"),
        ):
            if points:
                epochs, values = np.asarray(points, dtype=float).T
                marker = "o" if len(points) < 15 else None
                axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3)
        if chosen_epoch is not None:
            axes.axvline(chosen_epoch, color=ORANGE, linewidth=1, linestyle="--", label="chosen")
        axes.set_xlabel("epoch")
        axes.set_ylabel(curve.label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        data = svg(canvas)
    alt = f"{curve.label} over epochs for training and validation. {_ends(curve)}"
    return Figure("", "", alt, data, "image/svg+xml")


def correlation_chart(groups: Sequence[ChartGroup], score: str, label: str) -> Figure:
    """Scores between -1 and 1: subjects as points, the mean and its 95 % interval as a line."""
    rows = sum(len(group.rows) for group in groups)
    height = 0.29 * rows + 0.36 * len(groups) + 0.55
    with drawing(4.9, height) as canvas:
        axes = canvas.subplots()
        position, ticks, labels = 0.0, [], []
        for group in groups:
            ticks.append(position)
            labels.append(textwrap.fill(group.title, _TITLE_COLUMNS))
            for row in group.rows:
                position += 1
                _draw_score(axes, position, row, score)
                ticks.append(position)
                labels.append(row.label + (" (oracle)" if row.oracle else ""))
            position += 1.4
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(ticks, labels)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        titles = {textwrap.fill(group.title, _TITLE_COLUMNS) for group in groups}
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in titles else "normal")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(position - 0.6, -0.6)
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, -1.05), min(right, 1.05))
        axes.set_xlabel(label)
        data = svg(canvas)
    return Figure("", "", _score_alt(groups, score, label), data, "image/svg+xml")


def temporal_change(volumes: np.ndarray, index: int) -> np.ndarray:
    """Percent change of one volume (x, y, z) from the mean over time of its recording."""
    mean = volumes.mean(axis=0, dtype=np.float64)
    change = 100.0 * (volumes[index] - mean)
    return np.divide(change, mean, out=np.zeros_like(mean), where=mean > 0)


def volume_slices(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    voxel_mm: Sequence[float],
    caption: str = "",
) -> Figure:
    """Axial slices of a true and a predicted volume (x, y, z), one gray scale, and difference."""
    top = float(np.percentile(true[mask], 99.5))
    spread = float(np.percentile(np.abs(predicted - true)[mask], 99)) or 1.0
    rows = [
        ("true", true, "gray", 0.0, top),
        ("predicted", predicted, "gray", 0.0, top),
        ("difference", predicted - true, "RdBu_r", -spread, spread),
    ]
    return _slices("BOLD volume", rows, mask, voxel_mm, caption, "BOLD, units of the store")


def change_slices(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    voxel_mm: Sequence[float],
    caption: str = "",
) -> Figure:
    """Axial slices of a predicted and true `temporal_change` (x, y, z) on one color scale."""
    top = float(np.percentile(np.abs(true)[mask], 99)) or 1.0
    rows = [
        ("true", true, "RdBu_r", -top, top),
        ("predicted", predicted, "RdBu_r", -top, top),
        ("difference", predicted - true, "RdBu_r", -top, top),
    ]
    return _slices("Change over time", rows, mask, voxel_mm, caption, "% change")


def regional_curves(
    predicted: np.ndarray,
    true: np.ndarray,
    names: Sequence[str],
    tr_s: float,
    count: int = 6,
) -> list[Figure]:
    """Predicted and true time courses of regions from the best r to the worst, evenly spread.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, region)
        Regional means, detrended, in the units of the store.
    names : sequence of str
        Of the regions.
    tr_s : float
        Repetition time in s.
    count : int
        Number of regions shown.
    """
    scores = temporal_correlation(predicted, true)
    ranked = np.argsort(-scores)
    picks = ranked[np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))]
    time_s = np.arange(len(true)) * tr_s
    figures = []
    for region in picks:
        with drawing(4.2, 1.7) as canvas:
            axes = canvas.subplots()
            axes.plot(time_s, _percent(true[:, region]), color=INK, linewidth=1, label="true")
            axes.plot(time_s, _percent(predicted[:, region]), color=BLUE, label="predicted")
            axes.set_xlabel("time (s)")
            axes.set_ylabel("% change")
            axes.margins(x=0)
            data = svg(canvas)
        title = f"{names[region]} · r {scores[region]:.2f}".replace("-", "−")
        alt = f"Mean BOLD of {names[region]} over time, true (black) and predicted (blue)."
        figures.append(Figure(title, "", alt, data, "image/svg+xml"))
    return figures


def correlation_matrices(
    predicted: np.ndarray, true: np.ndarray, names: Sequence[str]
) -> list[Figure]:
    """Region-by-region correlations of the truth and of the prediction, and their difference.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, region)
        Regional means, detrended.
    names : sequence of str
        Of the regions; written on the axes where there is room (up to 20).
    """
    of_true, of_predicted = correlation_matrix(true), correlation_matrix(predicted)
    similarity = matrix_similarity(of_predicted, of_true)
    panels = [
        ("True", of_true, "Correlation of regions in the true BOLD."),
        (
            f"Predicted · similarity {similarity:.2f}".replace("-", "−"),
            of_predicted,
            f"The same for the prediction; similarity of the two is {similarity:.2f}.",
        ),
        ("Predicted − true", of_predicted - of_true, "Difference of the two matrices."),
    ]
    return [
        Figure(title, "", alt, _matrix_png(matrix, names), "image/png")
        for title, matrix, alt in panels
    ]


def _matrix_png(matrix: np.ndarray, names: Sequence[str]) -> bytes:
    with drawing(3.4, 3.0) as canvas:
        axes = canvas.subplots()
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        if len(names) <= 20:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5.5)
            axes.set_yticks(range(len(names)), names, fontsize=5.5)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(f"{len(names)} regions")
        add_colorbar(canvas, image, axes, shrink=0.8, ticks=[-1, 0, 1])
        return png(canvas)


def _slices(
    title: str,
    rows: Sequence[tuple[str, np.ndarray, str, float, float]],
    mask: np.ndarray,
    voxel_mm: Sequence[float],
    caption: str,
    unit: str,
) -> Figure:
    """One image row per volume, the same axial slices in each."""
    levels = _slice_levels(mask)
    (low_x, high_x), (low_y, high_y) = (_extent(mask, axis) for axis in (0, 1))
    aspect = voxel_mm[1] / voxel_mm[0]
    tall = (high_y - low_y) * aspect / (high_x - low_x)
    with drawing(6.6, 6.6 / len(levels) * tall * len(rows) * 0.86, "compressed") as canvas:
        grid = canvas.subplots(len(rows), len(levels), squeeze=False)
        for axes_row, (name, volume, colors, low, high) in zip(grid, rows, strict=True):
            for axes, level in zip(axes_row, levels, strict=True):
                plane = np.where(mask, volume, np.nan)[low_x:high_x, low_y:high_y, level]
                image = axes.imshow(
                    plane.T, origin="lower", cmap=colors, vmin=low, vmax=high, aspect=aspect
                )
                axes.axis("off")
            axes_row[0].set_title(name)
            bar = add_colorbar(canvas, image, list(axes_row), shrink=0.7, aspect=12, pad=0.01)
            bar.ax.tick_params(labelsize=7.5, length=2)
        data = png(canvas)
    alt = f"{len(levels)} axial slices; rows: {', '.join(row[0] for row in rows)}."
    note = f"Color: {unit}. Left is the subject's left."
    return Figure(title, f"{caption} {note}".strip(), alt, data, "image/png", wide=True)


def _slice_levels(mask: np.ndarray, count: int = 5) -> np.ndarray:
    low, high = _extent(mask, 2)
    return np.unique(np.linspace(low, high - 1, count + 2).round().astype(int)[1:-1])


def _extent(mask: np.ndarray, axis: int) -> tuple[int, int]:
    """First and one past the last plane along an axis that holds brain."""
    others = tuple(other for other in range(3) if other != axis)
    planes = np.flatnonzero(mask.any(axis=others))
    return int(planes[0]), int(planes[-1]) + 1


def _draw_score(axes: Axes, position: float, row: ScoreRow, score: str) -> None:
    color = COLOURS.get(row.name, GREEN)
    values = [value for value in row.values(score).values() if np.isfinite(value)]
    axes.scatter(values, [position + 0.3] * len(values), s=12, color=color, alpha=0.6, linewidths=0)
    interval = row.interval(score)
    if interval.known:
        axes.plot([interval.low, interval.high], [position] * 2, color=color, linewidth=1.8)
    if np.isfinite(interval.mean):
        axes.scatter([interval.mean], [position], s=36, color=color, zorder=3)


def _score_alt(groups: Sequence[ChartGroup], score: str, label: str) -> str:
    parts = [
        f"{group.title}: "
        + ", ".join(f"{row.label} {row.interval(score).mean:.2f}" for row in group.rows)
        for group in groups
    ]
    return f"{label}, mean over subjects. " + "; ".join(parts) + "."


def _ends(curve: Curve) -> str:
    texts = [
        f"{name} ends at {points[-1][1]:.3g}."
        for name, points in (("Training", curve.train), ("Validation", curve.validation))
        if points
    ]
    return " ".join(texts)


def _percent(series: np.ndarray) -> np.ndarray:
    mean = series.mean()
    return 100.0 * (series - mean) / mean if mean > 0 else series - mean
