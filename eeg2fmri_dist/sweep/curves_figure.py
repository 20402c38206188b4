"""The figure of learning curves: r against the number of training subjects, a panel a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eeg2fmri_dist.plot_style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, RED
from eeg2fmri_dist.sweep.curves_table import BySubject, CurvePoint
from eeg2fmri_dist.sweep.figures import Picture, canvas

_COLOURS = (BLUE, ORANGE, GREEN, RED, INK, GREY)
_MARKERS = "osD^vP"
_PANEL_INCHES = (2.6, 2.7)
_PANELS_IN_A_ROW = 4
_SPREAD = 0.04  # of a doubling, between models, so that error bars do not hide each other


def draw_curves(points: Sequence[CurvePoint], ceilings: Mapping[str, BySubject]) -> Picture:
    """Draw r with true EEG (filled) and shuffled EEG (hollow), with intervals over subjects.

    Parameters
    ----------
    points : sequence of CurvePoint
        Of one or more conditions.
    ceilings : mapping of str to dict
        Condition -> subject -> r of the noise-free BOLD.
    """
    conditions = list(dict.fromkeys(point.condition for point in points))
    models = list(dict.fromkeys(point.model for point in points))
    columns = min(len(conditions), _PANELS_IN_A_ROW)
    rows = -(-len(conditions) // columns)
    with canvas(_PANEL_INCHES[0] * columns + 0.4, _PANEL_INCHES[1] * rows) as (figure, png):
        panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
        for axes, condition in zip(panels, conditions, strict=False):
            own = [point for point in points if point.condition == condition]
            _panel(axes, own, models, ceilings.get(condition, {}))
            axes.set_title(condition.replace("_", " "))
        for axes in panels[len(conditions) :]:
            axes.set_visible(False)
        panels[0].set_ylabel("r of regions, unseen subjects")
        handles = dict(
            pair[::-1]
            for axes in panels
            for pair in zip(*axes.get_legend_handles_labels(), strict=True)
        )
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=8
        )
        image = png()
    text = (
        "Correlation over time of predicted and true regional BOLD in test subjects, against the "
        "number of training subjects. Filled: true EEG; hollow: shuffled EEG; bars: 95 % interval "
        "over subjects; dotted: the noise ceiling."
    )
    return Picture("Learning curves", text, image)


def _panel(
    axes: Any, points: Sequence[CurvePoint], models: Sequence[str], ceiling: BySubject
) -> None:
    axes.axhline(0, color=MUTED, linewidth=0.8)
    highest = float(np.mean([*ceiling.values()])) if ceiling else 0.0
    if highest > 0:
        axes.axhline(highest, color=MUTED, linewidth=1, linestyle=":", label="noise ceiling")
    for rank, model in enumerate(models):
        own = sorted((p for p in points if p.model == model), key=lambda p: p.train_subjects)
        if not own:
            continue
        style = {"color": _COLOURS[rank % len(_COLOURS)], "marker": _MARKERS[rank % len(_MARKERS)]}
        counts = np.array([point.train_subjects for point in own])
        x = counts * 2 ** (_SPREAD * (rank - (len(models) - 1) / 2))
        means = np.array([point.r.mean for point in own])
        ends = np.array([[point.r.low, point.r.high] for point in own]).T
        axes.errorbar(
            x, means, np.abs(ends - means), **style, markersize=4, elinewidth=1, label=model
        )
        hollow = [point.shuffled.mean for point in own]
        axes.plot(x, hollow, **style, linestyle="none", markersize=4, markerfacecolor="white")
    axes.set_xscale("log", base=2)
    ticks = sorted({point.train_subjects for point in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training subjects")
