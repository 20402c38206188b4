"""Cross-validation over subjects: every model on every fold, scored on who was left out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import FoldsConfig, SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.sweep.dependencies import find_parents, parents_first
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.search import (
    Commands,
    Training,
    launch_script,
    plan_training,
    train_command,
)
from eeg2fmri_dist.sweep.space import as_overrides, flow


class Folds:
    """One trial for each model and fold, models in the order of the config but after their parents.

    Attributes
    ----------
    points : list of dict
        ``model`` and ``fold`` (left-out subject, or number of the fold) of each trial.
    """

    def __init__(self, config: SweepConfig, folder: SweepFolder):
        assert config.folds is not None
        self._config: FoldsConfig = config.folds
        self._folder, self._world_size = folder, config.resources.world_size
        fixed = as_overrides(config.overrides)
        models = {
            name: load_config(TrainConfig, path, [*fixed, *self._any_fold()])
            for name, path in self._config.models.items()
        }
        self._parents = find_parents(models, "folds")
        self._models = {name: models[name] for name in parents_first(self._parents)}
        self._folds = self._list_folds()
        self.points = [
            {"model": model, "fold": fold} for model in self._models for fold in self._folds
        ]

    def bases(self) -> dict[str, TrainConfig]:
        """Return the training config of each model."""
        return self._models

    def stores(self) -> list[Path]:
        """Return the store of each model."""
        return [model.store for model in self._models.values()]

    def examples(self) -> dict[str, Any]:
        """Return the first model and fold."""
        return self.points[0]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Take the values of the trial's point."""
        return {
            "model": trial.suggest_categorical("model", list(self._models)),
            "fold": trial.suggest_categorical("fold", self._folds),
        }

    def training(self, number: int, params: Mapping[str, Any]) -> Training:
        """Return the training of a model on a fold."""
        model = params["model"]
        overrides = self._split(params["fold"])
        for key, needed in self._needs(number).items():
            overrides.append(f"{key}={self._folder.run(needed)}")
        training = plan_training(self._folder, model, number, overrides, self._world_size)
        scores = self._folder.run(number) / "metrics.json"
        return Training(training.base, training.overrides, (*training.outputs, scores))

    def commands(self, training: Training) -> Commands:
        """Return the command lines that train and then score the subjects who were left out."""
        run = training.outputs[0].parent
        config = self._folder.root / "bases" / "evaluate.yaml"
        if not config.exists():
            write_text(config, f"runs: []\noutput: ''\nssim_every: {self._config.ssim_every}\n")
        values = (f"runs={flow([str(run)])}", f"output={run}", f"title=Fold {run.name}")
        evaluate = (sys.executable, launch_script("evaluate"), str(config), *values)
        return (train_command(training), evaluate)

    def needs(self, number: int) -> tuple[int, ...]:
        """Return the trials of the same fold that this one builds on."""
        return tuple(self._needs(number).values())

    def _needs(self, number: int) -> dict[str, int]:
        """Key of the training config -> trial whose run folder it names."""
        point = self.points[number]
        return {
            key: self.points.index({"model": parent, "fold": point["fold"]})
            for key, parent in self._parents[point["model"]].items()
        }

    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return who predicts -> score -> subject -> value, of the trials that are done.

        Who predicts is a model with true EEG, the same with circularly shifted EEG, or ridge
        regression.

        Raises
        ------
        ConfigError
            If a score is unknown.
        """
        table: dict[str, dict[str, dict[str, float]]] = {}
        for number, point in enumerate(self.points):
            metrics = read_metrics(self._folder.run(number))
            if metrics is None:
                continue
            for label, scores in _rows_of(point["model"], metrics):
                for name in self._config.scores:
                    _require_score(name, scores)
                    subjects = scores[name]["subjects"]
                    table.setdefault(label, {}).setdefault(name, {}).update(subjects)
        controls = [label for label in table if label not in self._models]
        return {label: table[label] for label in (*self._models, *controls) if label in table}

    def _any_fold(self) -> list[str]:
        kind = self._config.name
        if kind == "k_fold":
            return [f"split.name={kind}", f"split.folds={self._config.folds}", "split.fold=0"]
        return [f"split.name={kind}", "split.test_subject=''"]

    def _split(self, fold: Any) -> list[str]:
        if self._config.name == "k_fold":
            return [f"split.fold={fold}"]
        return [f"split.test_subject={flow(fold)}"]

    def _list_folds(self) -> list[Any]:
        if self._config.name == "k_fold":
            return list(range(self._config.folds))
        from eeg2fmri_dist.store import Store

        store = Store(next(iter(self._models.values())).store)
        return sorted({recording.subject for recording in store.recordings})


def read_metrics(run: Path) -> dict[str, Any] | None:
    """Return the scores of a run's own report; None if it has none yet."""
    from eeg2fmri_dist.evaluation.metrics_file import METRICS, read_content

    return read_content(run / METRICS) or None


def folds_table(task: Folds) -> dict[str, dict[str, dict[str, Any]]]:
    """Return who predicts -> score -> ``mean``, ``low``, ``high``, ``n``, ``method``, ``subjects``.

    ``low`` and ``high`` are the ends of the 95 % interval over subjects
    (`evaluation.results.score_interval`).
    """
    from eeg2fmri_dist.evaluation.score_rows import score_interval

    return {
        label: {
            name: {
                **vars(score_interval(name, [v for v in subjects.values() if v is not None])),
                "subjects": subjects,
            }
            for name, subjects in scores.items()
        }
        for label, scores in task.scores().items()
    }


def _rows_of(model: str, metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    variants = metrics["runs"][0]["variants"]
    rows = [(model, next(iter(variants.values()))["scores"])]
    if "shifted" in variants:
        rows.append((f"{model}, circularly shifted EEG", variants["shifted"]["scores"]))
    if "ridge" in metrics["baselines"]:
        rows.append(("ridge regression", metrics["baselines"]["ridge"]["scores"]))
    return rows


def _require_score(name: str, scores: dict[str, Any]) -> None:
    if name not in scores:
        raise ConfigError(
            f"folds.scores: {name!r} is not in metrics.json",
            remedy=f"choose from {', '.join(scores)}",
        )
