"""A sweep's study in Optuna's journal; with the modules beside it the only importer of optuna."""

from __future__ import annotations

import datetime
import fcntl
import logging
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from eeg2fmri_dist.config.sweep import PruningConfig, SamplerConfig, SweepConfig
from eeg2fmri_dist.sweep.folder import SweepFolder

logger = logging.getLogger(__name__)

_NAME = "sweep"


@dataclass
class Trial:
    """A trial as a sweep sees it.

    Attributes
    ----------
    number : int
        Counts from 0.
    params : dict
        Searched keys as Optuna knows them (see `space`).
    attempts : list of dict
        Submissions: ``handle`` (see `jobs.Handle`) and, when it is over, ``ended``.
    stopping : str or None
        Why it is to be stopped, once that is decided.
    is_planned : bool
        All its values are chosen.
    """

    number: int
    params: dict[str, Any]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    stopping: str | None = None
    is_planned: bool = False


class Study:
    """What is known of the trials; every change is in the journal when a call returns.

    Made, and asked for changes, under `SweepFolder.locked`; reading needs no lock.
    """

    def __init__(self, folder: SweepFolder, config: SweepConfig):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._journal = folder.journal
        self._config = config
        self._pruning = config.pruning
        self.repair()
        backend = JournalFileBackend(str(folder.journal), lock_obj=_FileLock(folder.journal))
        self.optuna = optuna.create_study(
            storage=JournalStorage(backend),
            study_name=_NAME,
            direction=config.objective.direction,
            load_if_exists=True,
        )

    def repair(self) -> None:
        """Cut off what a killed process or a full disk left of the journal's last line."""
        try:
            content = self._journal.read_bytes()
        except OSError:
            return
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            logger.warning("%s: dropped an unfinished last line", self._journal)
            os.truncate(self._journal, whole)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number, as Optuna has them."""
        return self.optuna.get_trials(deepcopy=False)

    def running(self) -> list[Trial]:
        """Return the trials that are not told yet, by number."""
        return [_view(trial) for trial in self.trials() if trial.state == TrialState.RUNNING]

    def ask(
        self,
        suggest: Callable[[optuna.Trial], dict[str, Any]],
        point: dict[str, Any] | None,
        number: int | None = None,
    ) -> Trial:
        """Begin a trial, or finish the choice of values of one that was cut off in it.

        Parameters
        ----------
        suggest : callable
            Calls the ``suggest_*`` methods of the trial.
        point : dict or None
            Values that are not left to the sampler (grid, folds).
        number : int or None
            Trial that was begun; None = a new one.
        """
        trials = self.trials()
        # Drawn anew for each trial: what it gets does not depend on when a sweep was restarted.
        self.optuna.sampler = make_sampler(
            self._config.sampler, len(trials) if number is None else number
        )
        if number is not None:
            trial = optuna.Trial(self.optuna, trials[number]._trial_id)
        else:
            if point is not None and not any(t.state == TrialState.WAITING for t in trials):
                self.optuna.enqueue_trial(point)
            trial = self.optuna.ask()
        params = suggest(trial)
        trial.set_user_attr("planned", True)
        return Trial(trial.number, params, is_planned=True)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Note the objective after an epoch."""
        trial = self._get(number)
        if epoch not in trial.intermediate_values:
            self.optuna._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def is_to_be_pruned(self, number: int, epoch: int) -> bool:
        """Decide whether a trial stops after an epoch that was reported."""
        if self._pruning is None:
            return False
        maximize = self._config.objective.direction == "maximize"
        return is_pruned(self.trials(), number, epoch, self._pruning, maximize=maximize)

    def last_epoch(self, number: int) -> int:
        """Return the last epoch that was reported; 0 before the first."""
        return max(self._get(number).intermediate_values, default=0)

    def note(self, trial: Trial) -> None:
        """Write attempts and decisions of a trial to the journal."""
        storage, trial_id = self.optuna._storage, self._get(trial.number)._trial_id
        storage.set_trial_user_attr(trial_id, "attempts", trial.attempts)
        if trial.stopping is not None:
            storage.set_trial_user_attr(trial_id, "stopping", trial.stopping)

    def complete(self, number: int, value: float) -> None:
        """End a trial with its objective."""
        self.optuna.tell(number, value)

    def prune(self, number: int, reason: str) -> None:
        """End a trial that was stopped early, refused or diverged."""
        self._end(number, TrialState.PRUNED, reason)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that could not be run."""
        self._end(number, TrialState.FAIL, reason)

    def is_complete(self, number: int) -> bool:
        """Tell whether a trial ended with its objective."""
        return self._get(number).state == TrialState.COMPLETE

    def best(self) -> FrozenTrial | None:
        """Return the completed trial with the best objective; None if there is none."""
        try:
            return self.optuna.best_trial
        except ValueError:
            return None

    def _end(self, number: int, state: TrialState, reason: str) -> None:
        storage = self.optuna._storage
        storage.set_trial_user_attr(self._get(number)._trial_id, "reason", reason)
        self.optuna.tell(number, state=state)

    def _get(self, number: int) -> FrozenTrial:
        return self.trials()[number]


def make_sampler(config: SamplerConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial."""
    seed = 100_003 * config.seed + number
    if config.name != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=config.startup_trials,
            multivariate=True,
            group=True,
            # Trials that still run count as bad: parallel ones do not crowd at one point.
            constant_liar=True,
        )


def is_pruned(
    trials: list[FrozenTrial], number: int, epoch: int, config: PruningConfig, *, maximize: bool
) -> bool:
    """Decide by asynchronous successive halving whether a trial stops after an epoch.

    At each step (``min_epochs * reduction ** k`` epochs) a trial goes on if it is among the best
    ``1 / reduction`` of the trials that reached the step so far; where that is less than one
    trial, if it is the best. (Li et al., A System for Massively Parallel Hyperparameter Tuning,
    MLSys 2020.) `optuna.pruners.SuccessiveHalvingPruner` decides by the same rule, but notes a step
    as passed before its answer is acted on: a sweep that is killed between the two would go on with
    a trial that it was to stop. This one depends on the reported values alone.
    """
    reported = trials[number].intermediate_values
    value = reported[epoch]
    step = config.min_epochs
    while step <= epoch:
        if _value_at(reported, step) == (epoch, value):
            others = (_value_at(t.intermediate_values, step) for t in trials if t.number != number)
            values = [value, *(found[1] for found in others if found is not None)]
            values.sort(reverse=maximize)
            last_kept = values[max(0, len(values) // config.reduction - 1)]
            if value < last_kept if maximize else value > last_kept:
                return True
        step *= config.reduction
    return False


def _value_at(reported: dict[int, float], step: int) -> tuple[int, float] | None:
    """First report at or after a step."""
    return min(((e, v) for e, v in reported.items() if e >= step), default=None)


def elapsed_hours(trials: list[FrozenTrial]) -> float:
    """Return the hours since the first trial was started."""
    starts = [t.datetime_start for t in trials if t.datetime_start is not None]
    if not starts:
        return 0.0
    return (datetime.datetime.now() - min(starts)).total_seconds() / 3600


def as_finite(value: float) -> float | None:
    """Return a number, or None for one that says nothing."""
    return value if math.isfinite(value) else None


def _view(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    return Trial(
        trial.number,
        dict(trial.params),
        [dict(attempt) for attempt in attributes.get("attempts", [])],
        attributes.get("stopping"),
        attributes.get("planned", False),
    )


class _FileLock(JournalFileOpenLock):
    """Lock of the journal that a killed process lets go by itself (Optuna's own waits 30 s)."""

    def __init__(self, path: Path):
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._descriptor)
