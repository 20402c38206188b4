"""sweep.html: the study, or the cross-validation, on one page that loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.learning_curves.table import CurvePoint
from eeg2fmri_dist.sweep.monitoring.figures import draw_all
from eeg2fmri_dist.sweep.monitoring.status import (
    remark,
    short_names,
    state_name,
    summarize,
    value_of,
)
from eeg2fmri_dist.sweep.optuna_study import Study

if TYPE_CHECKING:
    from eeg2fmri_dist.sweep.learning_curves.baselines import BaselineScore


@dataclass(frozen=True)
class Curves:
    """Learning curves, as the page shows them.

    Attributes
    ----------
    points : sequence of CurvePoint
        Rows of the table.
    baselines : sequence of BaselineScore
        Rows of predictions without a model.
    reference : str or None
        Model that the others are compared with.
    figure : Figure or None
        None before any trial was scored.
    """

    points: Sequence[CurvePoint]
    baselines: Sequence[BaselineScore]
    reference: str | None
    figure: Figure | None


def write_page(
    folder: SweepFolder,
    config: SweepConfig,
    study: Study,
    table: Mapping[str, Any],
    curves: Curves | None = None,
) -> None:
    """Write the page of a study.

    Parameters
    ----------
    folder, config, study
        Of the sweep.
    table : mapping
        Scores of a cross-validation (`folds.folds_table`); empty for others.
    curves : Curves, optional
        Learning curves, where the sweep is of these.
    """
    shown = _view(folder, config, study, table) | {"curves": curves}
    write_text(folder.page, render("eeg2fmri_dist/sweep/monitoring/page.html.j2", shown))


def _view(
    folder: SweepFolder, config: SweepConfig, study: Study, table: Mapping[str, Any]
) -> dict[str, Any]:
    trials, best = study.trials(), study.best()
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    logarithmic = {key for key, parameter in config.search.items() if parameter.log}
    return {
        "name": folder.root,
        "summary": summarize(trials, None),
        "metric": config.objective.metric,
        "direction": config.objective.direction,
        "value": config.objective.value,
        "sampler": f"{config.sampler.name}, seed {config.sampler.seed}",
        "best": best if config.is_search else None,
        "best_run": None if best is None else folder.run(best.number),
        "figures": (
            draw_all(study.optuna, config.objective.metric, logarithmic) if config.is_search else []
        ),
        "is_search": config.is_search,
        "folds": config.folds,
        "table": table,
        "origin": _origin(folder),
        "names": short_names(keys),
        "trials": [
            {
                "number": trial.number,
                "state": state_name(trial),
                "value": value_of(trial),
                "epochs": max(trial.intermediate_values, default=0),
                "jobs": len(trial.user_attrs.get("attempts", [])),
                "params": [trial.params.get(key) for key in keys],
                "remark": remark(trial),
                "is_best": best is not None and trial.number == best.number,
            }
            for trial in trials
        ],
    }


def _origin(folder: SweepFolder) -> str:
    """Where the recordings come from, in words; empty where the store is not at hand."""
    from eeg2fmri_dist.config import load_resolved
    from eeg2fmri_dist.store import Store

    bases = sorted((folder.root / "bases").glob("*.yaml"))
    stores = [load_resolved(TrainConfig, path).store for path in bases if path.stem != "evaluate"]
    if not stores or not stores[0].exists():
        return ""
    source = Store(stores[0]).layout.settings.get("source", {})
    return {"simulated": "simulated data", "simulated_eeg": "real BOLD, simulated EEG"}.get(
        source.get("origin"), ""
    )
