"""A search for hyperparameters: each trial is the base config with other values."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import eeg2fmri_dist
from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError, LaunchError
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.space import as_overrides, extremes, first_values, grid, suggest, values_of

Commands = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Training:
    """What a trial runs.

    Attributes
    ----------
    base : Path
        Resolved config file.
    overrides : tuple of str
        ``key.path=value``.
    outputs : tuple of Path
        Files that are there when the trial is done.
    """

    base: Path
    overrides: tuple[str, ...]
    outputs: tuple[Path, ...]

    def config(self) -> TrainConfig:
        """Return the training config; raises `ConfigError` where values do not fit together."""
        return load_config(TrainConfig, self.base, self.overrides)


class Task(Protocol):
    """What a sweep does: which trials there are and what each of them runs."""

    @property
    def points(self) -> list[dict[str, Any]] | None:
        """Values of each trial in turn; None = the sampler chooses them."""

    def bases(self) -> dict[str, TrainConfig]:
        """Return the training configs that trials start from, by name."""

    def stores(self) -> list[Path]:
        """Return what trials are trained on."""

    def examples(self) -> dict[str, Any]:
        """Return one value of every key that trials differ in."""

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Let an Optuna trial choose its values."""

    def training(self, number: int, params: Mapping[str, Any]) -> Training:
        """Return what a trial runs."""

    def commands(self, training: Training) -> Commands:
        """Return the command lines of a trial."""

    def needs(self, number: int) -> tuple[int, ...]:
        """Return the trials that must be complete before this one starts."""


class Search:
    """Trials of a search space over one base config.

    Attributes
    ----------
    points : list of dict or None
        Values of each trial in turn (grid); None = the sampler chooses.
    """

    def __init__(self, config: SweepConfig, folder: SweepFolder):
        assert config.base is not None
        self._search, self._folder = config.search, folder
        self._resources = config.resources
        self._base = load_config(TrainConfig, config.base, as_overrides(config.overrides))
        self._check(config, config.base)
        self.points = _grid(config)

    def bases(self) -> dict[str, TrainConfig]:
        """Return the one base config."""
        return {"base": self._base}

    def stores(self) -> list[Path]:
        """Return the store of the base config."""
        return [self._base.store]

    def examples(self) -> dict[str, Any]:
        """Return one value of every searched key."""
        return first_values(self._search)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Let an Optuna trial choose its values."""
        return suggest(trial, self._search)

    def training(self, number: int, params: Mapping[str, Any]) -> Training:
        """Return the base config with a trial's values."""
        values = values_of(params, self._search)
        return plan_training(
            self._folder, "base", number, as_overrides(values), self._resources.world_size
        )

    def commands(self, training: Training) -> Commands:
        """Return the command line of the training."""
        return (train_command(training),)

    def needs(self, number: int) -> tuple[int, ...]:
        """Return nothing: trials do not depend on each other."""
        return ()

    def _check(self, config: SweepConfig, base: Path) -> None:
        """Refuse a key none of whose values is accepted: it is misspelt or out of range."""
        fixed = as_overrides(config.overrides)
        for key, variants in extremes(self._search):
            problems = []
            for values in variants:
                try:
                    load_config(TrainConfig, base, [*fixed, *as_overrides(values)])
                except ConfigError as error:
                    problems.append(error)
            if len(problems) == len(variants):
                raise ConfigError(
                    f"no value of search.{key} fits the training config: {problems[0].what}",
                    where=base,
                    remedy="launch/train.py --help lists every key with its type and range",
                )


def _grid(config: SweepConfig) -> list[dict[str, Any]] | None:
    return grid(config.search) if config.sampler.name == "grid" else None


def plan_training(
    folder: SweepFolder, base: str, number: int, overrides: list[str], world_size: int
) -> Training:
    """Return the training of a trial, into its run folder."""
    run = folder.run(number)
    execution = [f"output={run}", f"world_size={world_size}"]
    return Training(folder.base(base), (*overrides, *execution), (run / "finished.json",))


def train_command(training: Training) -> tuple[str, ...]:
    """Return the command line that a person would type for a training."""
    return (sys.executable, launch_script("train"), str(training.base), *training.overrides)


def launch_script(verb: str) -> str:
    """Return the path of a script of launch/.

    Raises
    ------
    LaunchError
        If the package is installed without them.
    """
    script = Path(eeg2fmri_dist.__file__).parents[1] / "launch" / f"{verb}.py"
    if not script.exists():
        raise LaunchError(
            f"launch/{verb}.py is not beside the package",
            where=script,
            remedy="install from a checkout: pip install --editable .",
        )
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
