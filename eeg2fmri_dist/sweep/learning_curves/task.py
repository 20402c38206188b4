"""Learning curves: every model, trained on more and more subjects, in every condition."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import LearningCurvesConfig, SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.sweep.dependencies import find_parents, parents_first
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.search import Commands, Training, plan_training, train_command
from eeg2fmri_dist.sweep.space import as_overrides

SCORES = "regional.json"  # of evaluation.regional, which needs torch


class LearningCurves:
    """One trial for each condition, number of training subjects, model and seed.

    Conditions come one after the other; in each, first the models that others build on.

    Attributes
    ----------
    points : list of dict
        ``condition``, ``train_subjects``, ``model`` and ``seed`` of each trial.
    """

    def __init__(self, config: SweepConfig, folder: SweepFolder):
        assert config.learning_curves is not None
        self._curves: LearningCurvesConfig = config.learning_curves
        self._folder, self._world_size = folder, config.resources.world_size
        fixed = as_overrides(config.overrides)
        models = {
            name: load_config(TrainConfig, curve.config, fixed)
            for name, curve in self._curves.models.items()
        }
        self._parents = find_parents(models, "learning_curves")
        self._models = {name: models[name] for name in parents_first(self._parents)}
        self.points: list[dict[str, Any]] = [
            {"condition": condition, "train_subjects": count, "model": model, "seed": seed}
            for condition, part in self._curves.conditions.items()
            for models in self._generations()
            for count in part.train_subjects or self._curves.train_subjects
            for model in models
            if count in (self._curves.models[model].train_subjects or [count])
            for seed in self._seeds(model)
        ]
        self._numbers = {tuple(point.values()): at for at, point in enumerate(self.points)}
        self._check_parents()

    def bases(self) -> dict[str, TrainConfig]:
        """Return the training config of each model."""
        return self._models

    def stores(self) -> list[Path]:
        """Return the store of each condition."""
        return [condition.store for condition in self._curves.conditions.values()]

    def examples(self) -> dict[str, Any]:
        """Return the first trial's values."""
        return self.points[0]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Take the values of the trial's point."""
        choices = {
            "condition": list(self._curves.conditions),
            "train_subjects": self._curves.train_subjects,
            "model": list(self._models),
            "seed": self._curves.seeds,
        }
        return {key: trial.suggest_categorical(key, values) for key, values in choices.items()}

    def training(self, number: int, params: Mapping[str, Any]) -> Training:
        """Return the training of a model in a condition."""
        condition = self._curves.conditions[params["condition"]]
        overrides = [
            f"store={condition.store}",
            f"split.train_subjects={params['train_subjects']}",
            f"optimization.seed={params['seed']}",
            *(f"{key}={self._folder.run(at)}" for key, at in self._needs(number).items()),
        ]
        if condition.fractions is not None:
            overrides.append(f"split.fractions={list(condition.fractions)}")
        model = params["model"]
        training = plan_training(self._folder, model, number, overrides, self._world_size)
        if not self._predicts(model):
            return training
        scores = self._folder.run(number) / SCORES
        return Training(training.base, training.overrides, (*training.outputs, scores))

    def commands(self, training: Training) -> Commands:
        """Return the command lines that train a model and score it on the test subjects."""
        train = train_command(training)
        if len(training.outputs) == 1:
            return (train,)
        module, run = "eeg2fmri_dist.evaluation.regional", str(training.outputs[0].parent)
        threads = training.config().threads
        options = [] if threads is None else [f"--threads={threads}"]
        truth = self._truth_of(training.config().store)
        options += [] if truth is None else [f"--truth={truth}"]
        return (train, (sys.executable, "-m", module, run, *options))

    def needs(self, number: int) -> tuple[int, ...]:
        """Return the trials of the same condition and subjects that this one builds on."""
        return tuple(self._needs(number).values())

    def runs(self) -> list[tuple[dict[str, Any], Path]]:
        """Return point and run folder of each trial that predicts BOLD from EEG."""
        return [
            (point, self._folder.run(number))
            for number, point in enumerate(self.points)
            if self._predicts(point["model"])
        ]

    def _truth_of(self, store: Path) -> Path | None:
        return next(each.truth for each in self._curves.conditions.values() if each.store == store)

    def _generations(self) -> tuple[list[str], list[str]]:
        """Models that others build on, and those on which nothing is built."""
        parents = {name for named in self._parents.values() for name in named.values()}
        return (
            [name for name in self._models if name in parents],
            [name for name in self._models if name not in parents],
        )

    def _predicts(self, model: str) -> bool:
        return self._models[model].model.name != "cae"

    def _seeds(self, model: str) -> list[int]:
        # Closed form: no seed changes it.
        if self._models[model].model.name == "ridge":
            return self._curves.seeds[:1]
        return self._curves.models[model].seeds or self._curves.seeds

    def _needs(self, number: int) -> dict[str, int]:
        """Key of the training config -> trial whose run folder it names."""
        point = self.points[number]
        place = (point["condition"], point["train_subjects"])
        return {
            key: self._number(place, parent, point["seed"])
            for key, parent in self._parents[point["model"]].items()
        }

    def _number(self, place: tuple[str, int], parent: str, seed: int) -> int:
        """Trial of a parent: of the same seed where it is trained with it, else of its first."""
        same = (*place, parent, seed)
        first = (*place, parent, self._seeds(parent)[0])
        return self._numbers[same] if same in self._numbers else self._numbers[first]

    def _check_parents(self) -> None:
        for number, point in enumerate(self.points):
            try:
                self._needs(number)
            except KeyError as error:
                condition, count, parent, _ = error.args[0]
                raise ConfigError(
                    f"learning_curves.models.{point['model']} builds on {parent}, which is not "
                    f"trained with {count} subjects in {condition}",
                    remedy=f"let models.{parent}.train_subjects have {count}",
                ) from None
