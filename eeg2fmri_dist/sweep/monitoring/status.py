"""The study as a table; on a terminal, one that follows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.sweep.optuna_study import Study

if TYPE_CHECKING:
    pass

_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}
_NAMES = {TrialState.FAIL: "failed", TrialState.WAITING: "running"}
_REFRESH_S = 2.0
_WIDE, WIDEST = 160, 280  # characters of a table in a log


def show(config: SweepConfig, study: Study, goal: int | None) -> None:
    """Print the table of trials; on a terminal, until none runs.

    Parameters
    ----------
    config : SweepConfig
        Of the sweep.
    study : Study
        Its trials.
    goal : int or None
        How many trials there will be, if that is known.
    """
    if not sys.stdout.isatty():
        Console(width=_WIDE).print(render(config, study, goal))
        return
    with Live(render(config, study, goal), screen=False, auto_refresh=False) as live:
        while study.running():
            time.sleep(_REFRESH_S)
            live.update(render(config, study, goal), refresh=True)


def render(config: SweepConfig, study: Study, goal: int | None) -> RenderableType:
    """Return the table and a line that sums it up."""
    trials, best = study.trials(), study.best()
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column(config.objective.metric.rsplit("/", 1)[-1], justify="right", no_wrap=True)
    table.add_column("epochs", justify="right", no_wrap=True)
    table.add_column("jobs", justify="right", no_wrap=True)
    table.add_column("values", overflow="fold")
    table.add_column("remark", overflow="fold")
    for trial in trials:
        table.add_row(*_row(trial, keys, is_best=best is not None and trial.number == best.number))
    return Group(table, Text(summarize(trials, goal)))


def print_folds(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the table of a cross-validation: mean and 95 % interval over subjects."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("left-out subjects")
    for name in next(iter(scores.values())):
        table.add_column(name, justify="right")
    for label, row in scores.items():
        table.add_row(label, *(interval_text(cell) for cell in row.values()))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def interval_text(cell: Mapping[str, Any]) -> str:
    """Return a mean and its interval as text."""
    if cell["method"] == "none":
        return f"{cell['mean']:.3g}"
    return f"{cell['mean']:.3g} [{cell['low']:.3g}, {cell['high']:.3g}]"


def summarize(trials: list[FrozenTrial], goal: int | None) -> str:
    """Return how many trials are in which state."""
    names = [state_name(trial) for trial in trials]
    counts = [f"{names.count(name)} {name}" for name in _STYLES if name in names]
    of = f" of {goal}" if goal is not None else ""
    return f"{len(trials)}{of} trials: {', '.join(counts) or 'none started'}"


def _row(trial: FrozenTrial, keys: list[str], *, is_best: bool) -> list[RenderableType]:
    state = state_name(trial)
    value = value_of(trial)
    cells: list[RenderableType] = [
        f"{trial.number}{'*' if is_best else ''}",
        Text(state, style=_STYLES[state]),
        "" if value is None else f"{value:.4g}",
        str(max(trial.intermediate_values, default="")),
        str(len(trial.user_attrs.get("attempts", []))),
        "  ".join(
            f"{name}={_shown(trial.params[key])}"
            for key, name in zip(keys, short_names(keys), strict=True)
            if key in trial.params
        ),
        remark(trial),
    ]
    return [
        Text(cell, style="bold") if is_best and isinstance(cell, str) else cell for cell in cells
    ]


def value_of(trial: FrozenTrial) -> float | None:
    """Return the objective so far; None before the first validation."""
    if trial.value is not None or not trial.intermediate_values:
        return trial.value
    return trial.intermediate_values[max(trial.intermediate_values)]


def state_name(trial: FrozenTrial) -> str:
    """Return complete, pruned, failed or running."""
    return _NAMES.get(trial.state, trial.state.name.lower())


def remark(trial: FrozenTrial) -> str:
    """Return why a trial ended as it did, or where its job is."""
    attributes = trial.user_attrs
    if "reason" in attributes:
        return attributes["reason"]
    if "stopping" in attributes:
        return f"{attributes['stopping']}, is stopping"
    attempts = attributes.get("attempts", [])
    if trial.state == TrialState.RUNNING and attempts:
        handle = attempts[-1]["handle"]
        return f"{handle['cluster']} job {handle['job_id']}"
    return ""


def short_names(keys: list[str]) -> list[str]:
    """Return the last parts of dotted keys, as many as tell them apart."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
