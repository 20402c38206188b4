"""Figures of the sweep's page, drawn without a display; each a PNG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from eeg2fmri_dist.pages.drawing import drawing, png
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import BLUE, GRAY, MUTED, ORANGE
from eeg2fmri_dist.sweep.monitoring.status import short_names

_FEWEST_FOR_IMPORTANCE = 4
_LABELLED_BY_DECADES = 100


def draw_all(study: optuna.Study, metric: str, logarithmic: set[str]) -> list[Figure]:
    """Return history, parallel coordinates, importances and slices, where there is enough to show.

    Parameters
    ----------
    study : optuna.Study
        With its trials.
    metric : str
        Name of the objective.
    logarithmic : set of str
        Keys that are searched on a log scale.
    """
    done = [t for t in study.get_trials() if t.value is not None and t.state.is_finished()]
    figures = [_history(done, study.direction.name == "MAXIMIZE", metric)]
    keys = list(dict.fromkeys(key for trial in done for key in trial.params))
    varied = [key for key in keys if len({t.params[key] for t in done if key in t.params}) > 1]
    if varied:
        figures.append(_parallel_coordinates(done, varied, logarithmic, metric))
        importances = _importances(study, varied)
        if importances:
            figures.append(_importance_bars(importances))
        figures.append(_slices(done, varied, logarithmic, metric))
    return figures


def _history(trials: list[FrozenTrial], maximize: bool, metric: str) -> Figure:
    better = max if maximize else min
    with drawing(6.4, 3.0) as canvas:
        axes = canvas.subplots()
        best: list[tuple[int, float]] = []
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                value = _value(trial)
                best.append((trial.number, better(value, best[-1][1]) if best else value))
        if best:
            best.append((trials[-1].number, best[-1][1]))
            axes.step(*zip(*best, strict=True), where="post", color=BLUE, label="best so far")
        _scatter(axes, trials, [t.number for t in trials], [_value(t) for t in trials])
        axes.set(xlabel="trial", ylabel=metric)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        if trials:
            axes.legend(fontsize=8)
        data = png(canvas)
    text = f"{metric} of each trial in order; a pruned trial has that of its last epoch."
    return _titled("History", text, data)


def _parallel_coordinates(
    trials: list[FrozenTrial], keys: list[str], logarithmic: set[str], metric: str
) -> Figure:
    columns = [_Scale.of(trials, key, key in logarithmic) for key in keys]
    values = np.array([_value(trial) for trial in trials])
    low, high = np.percentile(values, [10, 100]) if len(values) else (0.0, 1.0)
    color = mpl.colors.Normalize(low, high if high > low else low + 1)
    with drawing(max(6.4, 1.5 * len(keys) + 2), 3.6) as canvas:
        axes = canvas.subplots()
        for trial in sorted(trials, key=_value):
            points = [
                (place, column.position(trial.params[key]))
                for place, (key, column) in enumerate(zip(keys, columns, strict=True))
                if key in trial.params
            ]
            shade = mpl.colormaps["viridis_r"](color(_value(trial)))
            style = "-" if trial.state == TrialState.COMPLETE else ":"
            axes.plot(*zip(*points, strict=True), style, color=shade, marker="o", markersize=3)
        for place, column in enumerate(columns):
            axes.axvline(place, color=GRAY, linewidth=0.8)
            for position, text in column.ticks():
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
                axes.text(place + 0.05, position, text, fontsize=7, va="center", bbox=box, zorder=5)
        axes.set(
            xticks=range(len(keys)), xticklabels=short_names(keys), yticks=[], ylim=(-0.06, 1.06)
        )
        axes.set_xlim(-0.15, len(keys) - 1 + 0.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        mappable = mpl.cm.ScalarMappable(color, "viridis_r")
        canvas.colorbar(mappable, ax=axes, label=metric, fraction=0.04, pad=0.02)
        data = png(canvas)
    text = f"One line a trial, colored by {metric}; dotted lines were pruned."
    return _titled("Parallel coordinates", text, data)


def _importance_bars(importances: dict[str, float]) -> Figure:
    names = list(importances)[::-1]
    with drawing(6.4, 0.6 + 0.32 * len(names)) as canvas:
        axes = canvas.subplots()
        bars = axes.barh(short_names(names), [importances[name] for name in names], color=BLUE)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8, color=MUTED)
        axes.set(xlim=(0, 1.1), xlabel="share of the objective's variance")
        axes.grid(visible=False, axis="y")
        data = png(canvas)
    text = (
        "How much of the objective's variance over completed trials each key explains (fANOVA, "
        "Hutter et al., ICML 2014). Few trials make it rough."
    )
    return _titled("Importances", text, data)


def _slices(
    trials: list[FrozenTrial], keys: list[str], logarithmic: set[str], metric: str
) -> Figure:
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    with drawing(max(3.4, 2.9 * columns), 2.5 * rows) as canvas:
        grid = canvas.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, key in zip(grid.flat, keys, strict=False):
            shown = [trial for trial in trials if key in trial.params]
            scale = _Scale.of(shown, key, key in logarithmic)
            given = [t.params[key] for t in shown]
            x = [scale.labels.index(str(v)) for v in given] if scale.labels else given
            _scatter(axes, shown, x, [_value(trial) for trial in shown])
            axes.set_xlabel(short_names(keys)[keys.index(key)])
            if scale.labels:
                axes.set_xticks(range(len(scale.labels)), scale.labels, fontsize=7)
                axes.margins(x=0.2)
            elif scale.logarithmic:
                _logarithmic(axes, scale)
            elif all(isinstance(value, int) for value in given):
                axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        for axes in grid.flat[len(keys) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(metric)
        data = png(canvas)
    return _titled("Slices", f"{metric} against each key; open circles were pruned.", data)


def _titled(title: str, text: str, data: bytes) -> Figure:
    return Figure(title, text, f"{title}: {text}", data, "image/png")


def _logarithmic(axes: Any, scale: _Scale) -> None:
    """Log axis with few labels: powers of ten, or 1, 2, 5 where there are not enough of them."""
    axes.set_xscale("log")
    subs = (1.0,) if scale.high / scale.low > _LABELLED_BY_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())


def _importances(study: optuna.Study, keys: Sequence[str]) -> dict[str, float]:
    """Importances of the keys that all completed trials have; empty where there are too few."""
    complete = [t for t in study.get_trials() if t.state == TrialState.COMPLETE]
    shared = [key for key in keys if all(key in trial.params for trial in complete)]
    varied = [key for key in shared if len({t.params[key] for t in complete}) > 1]
    values = {trial.value for trial in complete}
    if len(complete) < _FEWEST_FOR_IMPORTANCE or len(values) < 2 or not varied:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)


@dataclass(frozen=True)
class _Scale:
    """Maps a key's values to [0, 1]."""

    low: float
    high: float
    logarithmic: bool
    labels: list[str]

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], key: str, logarithmic: bool) -> _Scale:
        values = [trial.params[key] for trial in trials if key in trial.params]
        if any(isinstance(value, bool | str) or value is None for value in values):
            labels = list(dict.fromkeys(str(value) for value in sorted(values, key=str)))
            return cls(0, max(1, len(labels) - 1), False, labels)
        return cls(min(values), max(values), logarithmic and min(values) > 0, [])

    def position(self, value: Any) -> float:
        """Return where a value stands between the ends."""
        number = float(self.labels.index(str(value))) if self.labels else float(value)
        low, high = self.low, self.high
        if self.logarithmic:
            number, low, high = math.log(number), math.log(low), math.log(high)
        return (number - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and texts: all labels, or the two ends."""
        if self.labels:
            return [(self.position(label), label) for label in self.labels]
        return [(self.position(end), f"{end:.3g}") for end in (self.low, self.high)]


def _scatter(axes: Any, trials: list[FrozenTrial], x: Sequence[Any], y: Sequence[float]) -> None:
    for state, face, label in (
        (TrialState.COMPLETE, BLUE, "complete"),
        (TrialState.PRUNED, "none", "pruned"),
    ):
        chosen = [index for index, trial in enumerate(trials) if trial.state == state]
        if chosen:
            edge = BLUE if state == TrialState.COMPLETE else ORANGE
            axes.scatter(
                [x[i] for i in chosen],
                [y[i] for i in chosen],
                22,
                face,
                edgecolors=edge,
                label=label,
            )


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value
