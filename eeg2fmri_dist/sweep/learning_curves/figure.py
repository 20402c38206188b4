"""The figure of learning curves: r against the number of training subjects, by condition."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.pages.drawing import drawing, png
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import CYCLE, MUTED
from eeg2fmri_dist.sweep.learning_curves.table import CurvePoint

if TYPE_CHECKING:
    from eeg2fmri_dist.sweep.learning_curves.baselines import BaselineScore

_MARKERS = "osD^vP"
_LINES = ("-.", ":", "--")  # of baselines
_PANEL_INCHES = (2.6, 2.2)
_SPREAD = 0.04  # of a doubling, between models, so that error bars do not hide each other


def draw_curves(points: Sequence[CurvePoint], baselines: Sequence[BaselineScore]) -> Figure:
    """Draw r with true EEG (filled), with shifted EEG (hollow), and without the global signal.

    A column a condition, with intervals over subjects.

    Parameters
    ----------
    points : sequence of CurvePoint
        Of one or more conditions.
    baselines : sequence of BaselineScore
        Predictions without a model; a line each, but for the mean image, whose r is 0.
    """
    conditions = list(dict.fromkeys(point.condition for point in points))
    models = list(dict.fromkeys(point.model for point in points))
    labels = sorted({mark.label for mark in baselines}, reverse=True)
    lines = dict(zip(labels, itertools.cycle(_LINES), strict=False))
    columns = len(conditions)
    width_in, height_in = _PANEL_INCHES
    with drawing(width_in * columns + 0.4, 2 * height_in) as canvas:
        panels = canvas.subplots(2, columns, sharey="row", sharex="col", squeeze=False)
        for (above, below), condition in zip(panels.T, conditions, strict=True):
            own = [point for point in points if point.condition == condition]
            _panel(above, own, models, "r")
            marks = [mark for mark in baselines if mark.condition == condition]
            _draw_baselines(above, marks, lines)
            _panel(below, own, models, "specific")
            above.set_title(condition.replace("_", " "))
            below.set_xlabel("training subjects")
        panels[0, 0].set_ylabel("r of regions")
        panels[1, 0].set_ylabel("r without global signal")
        handles = dict(
            pair[::-1]
            for axes in panels.flat
            for pair in zip(*axes.get_legend_handles_labels(), strict=True)
        )
        canvas.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=8
        )
        data = png(canvas)
    text = (
        "Correlation over time of predicted and true regional BOLD in test subjects, against the "
        "number of training subjects; below, without the global signal. "
        "Filled: true EEG; hollow: circularly shifted EEG; bars: 95 % interval over subjects; "
        "lines: predictions that have seen the BOLD."
    )
    return Figure("", text, text, data, "image/png")


def _draw_baselines(
    axes: Any, baselines: Sequence[BaselineScore], lines: Mapping[str, str]
) -> None:
    for mark in baselines:
        if mark.r.mean != 0:
            style = lines[mark.label]
            axes.axhline(mark.r.mean, color=MUTED, linewidth=1, linestyle=style, label=mark.label)


def _panel(axes: Any, points: Sequence[CurvePoint], models: Sequence[str], score: str) -> None:
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for rank, model in enumerate(models):
        own = sorted((p for p in points if p.model == model), key=lambda p: p.train_subjects)
        if not own:
            continue
        style = {"color": CYCLE[rank % len(CYCLE)], "marker": _MARKERS[rank % len(_MARKERS)]}
        counts = np.array([point.train_subjects for point in own])
        x = counts * 2 ** (_SPREAD * (rank - (len(models) - 1) / 2))
        intervals = [getattr(point, score) for point in own]
        means = np.array([interval.mean for interval in intervals])
        ends = np.array([[interval.low, interval.high] for interval in intervals]).T
        axes.errorbar(
            x, means, np.abs(ends - means), **style, markersize=4, elinewidth=1, label=model
        )
        if score == "r":
            hollow = [point.shifted.mean for point in own]
            axes.plot(x, hollow, **style, linestyle="none", markersize=4, markerfacecolor="white")
    axes.set_xscale("log", base=2)
    ticks = sorted({point.train_subjects for point in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
