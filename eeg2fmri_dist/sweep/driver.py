"""Carries a sweep out: starts trials, follows their logs, prunes, reaps and retries.

Everything a driver knows is in the journal and in the folders of trials and jobs. It changes them
in short turns under the sweep's lock, so drivers may be killed at any moment, and several of them
share one sweep.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.errors import ConfigError, DataError, DivergedError, LaunchError
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.jobs.job_command import EXIT_STOPPED, Job, lock_is_held, read_outcome
from eeg2fmri_dist.sweep.jobs.memory_check import find_shortage
from eeg2fmri_dist.sweep.jobs.submission import Cluster, Handle
from eeg2fmri_dist.sweep.optuna_study import Study, Trial, elapsed_hours
from eeg2fmri_dist.sweep.search import Task, Training
from eeg2fmri_dist.sweep.space import flow
from eeg2fmri_dist.training.monitoring.monitor import read_log

logger = logging.getLogger(__name__)

_TOO_MANY_FAILURES = 3
_HOPELESS = (ConfigError.exit_code, DataError.exit_code)


class Driver:
    """Brings a sweep to its end, alone or beside other drivers.

    Parameters
    ----------
    config : SweepConfig
        What is asked for now.
    folder : SweepFolder
        Of the sweep.
    study : Study
        Its trials.
    task : Task
        What each trial runs.
    cluster : Cluster
        Where jobs run.
    on_end : callable
        Called after each trial that ends.
    """

    def __init__(
        self,
        config: SweepConfig,
        folder: SweepFolder,
        study: Study,
        task: Task,
        cluster: Cluster,
        on_end: Callable[[], None] = lambda: None,
    ):
        self._config, self._folder, self._study = config, folder, study
        self._task, self._cluster, self._on_end = task, cluster, on_end

    def run(self) -> None:
        """Take turns until every trial has ended and none is to be started.

        Raises
        ------
        LaunchError
            If the first trials all fail.
        """
        while True:
            with self._folder.locked():
                is_over = self.turn()
            if is_over:
                return
            time.sleep(self._config.poll_s or self._cluster.poll_s)

    def turn(self) -> bool:
        """Look at every running trial once, act, start what there is room for.

        Returns
        -------
        bool
            True if the sweep is over.
        """
        self._study.repair()
        running = self._study.running()
        handles = {
            self._folder.job(trial.number): _handle(trial) for trial in running if trial.attempts
        }
        jobs = [self._folder.job(trial.number) for trial in running]
        # A job whose driver was killed while submitting it is known by its lock alone.
        alive = self._cluster.alive(handles) | {job for job in jobs if lock_is_held(job)}
        to_start = []
        for trial, job in zip(running, jobs, strict=True):
            if not trial.is_planned:
                trial = self._study.ask(self._task.suggest, None, trial.number)
            # After `alive`: the log of a job that is gone is complete.
            self._follow(trial)
            if job not in alive:
                if self._settle(trial):
                    to_start.append(trial)
            elif trial.stopping and job in handles:
                self._cluster.stop(handles[job])
        to_start += self._new_trials(len(alive) + len(to_start))
        self._start(to_start, [handle for job, handle in handles.items() if job in alive])
        self._refuse_to_fail_forever()
        return not self._study.running()

    def _follow(self, trial: Trial) -> None:
        """Report the epochs that a trial's log has gained; decide whether it goes on."""
        if trial.stopping:
            return
        seen = self._study.last_epoch(trial.number)
        # The last one seen, too: its decision may have been lost with a killed driver.
        new = [(e, v) for e, v in self._objectives(trial.number) if e >= max(seen, 1)]
        epochs = self._training(trial).config().optimization.epochs if new else 0
        for epoch, value in new:
            self._study.report(trial.number, epoch, value)
            if epoch < epochs and self._study.is_to_be_pruned(trial.number, epoch):
                trial.stopping = f"pruned after epoch {epoch}"
                self._study.note(trial)
                logger.info("trial %d: %s", trial.number, trial.stopping)
                return

    def _objectives(self, number: int) -> list[tuple[int, float]]:
        """Objective after each validated epoch of a trial's log."""
        objective = self._config.objective
        better = max if objective.direction == "maximize" else min
        found: list[tuple[int, float]] = []
        for record in read_log(self._folder.run(number)):
            value = record.get(objective.metric, math.nan)
            if not math.isfinite(value):
                continue
            if found and objective.value == "best":
                value = better(value, found[-1][1])
            found.append((int(record["epoch"]), value))
        return found

    def _settle(self, trial: Trial) -> bool:
        """Judge a trial whose job is gone; return whether it is to be started (again)."""
        if trial.stopping:
            self._end(trial, self._study.prune, trial.stopping)
            return False
        if not trial.attempts:
            return self._may_start(trial)
        if all(path.exists() for path in self._training(trial).outputs):
            self._complete(trial)
            return False
        attempt = trial.attempts[-1]
        code = read_outcome(self._folder.job(trial.number), len(trial.attempts) - 1)
        attempt["ended"] = _ending(code) + self._account_of(trial, code)
        self._study.note(trial)
        if code == DivergedError.exit_code:
            self._end(trial, self._study.prune, "training diverged")
            return False
        if code == EXIT_STOPPED:
            logger.info("trial %d: stopped cleanly, starts again", trial.number)
            return True
        deaths = sum(a.get("ended") != _ending(EXIT_STOPPED) for a in trial.attempts)
        if code in _HOPELESS or deaths > self._config.retries:
            self._end(trial, self._study.fail, attempt["ended"])
            return False
        logger.warning("trial %d: %s, starts again", trial.number, attempt["ended"])
        return True

    def _account_of(self, trial: Trial, code: int | None) -> str:
        """What the cluster knows of a job that could not speak for itself."""
        if code is not None and code >= 0:
            return ""
        account = self._cluster.account_of(_handle(trial))
        return "" if account is None else f" (Slurm: {account})"

    def _complete(self, trial: Trial) -> None:
        objectives = self._objectives(trial.number)
        if objectives:
            value = objectives[-1][1]
            self._study.complete(trial.number, value)
            logger.info("trial %d: %s %.6g", trial.number, self._config.objective.metric, value)
            self._on_end()
            return
        log = read_log(self._folder.run(trial.number))
        known = sorted({name for record in log for name in record})
        if self._config.objective.metric in known:
            self._end(trial, self._study.prune, "the objective was never a finite number")
            return
        self._end(trial, self._study.fail, f"no {self._config.objective.metric} in its log")
        raise ConfigError(
            f"objective.metric {self._config.objective.metric!r} is not in the log of trial "
            f"{trial.number}",
            where=self._folder.run(trial.number),
            remedy=f"choose one of {', '.join(n for n in known if n.startswith('validation/'))}",
        )

    def _new_trials(self, busy: int) -> list[Trial]:
        """Begin as many trials as there is room and budget for."""
        new: list[Trial] = []
        while busy + len(new) < self._config.budget.parallel and self._has_budget():
            number = len(self._study.trials())
            if not self._is_ready(number):
                break
            point = self._task.points[number] if self._task.points is not None else None
            trial = self._study.ask(self._task.suggest, point)
            if self._may_start(trial):
                new.append(trial)
        return new

    def _has_budget(self) -> bool:
        trials, budget = self._study.trials(), self._config.budget
        limits = [budget.trials, None if self._task.points is None else len(self._task.points)]
        if any(limit is not None and len(trials) >= limit for limit in limits):
            return False
        return budget.hours is None or elapsed_hours(trials) < budget.hours

    def _is_ready(self, number: int) -> bool:
        """Whether the trials that a trial builds on have ended."""
        trials = self._study.trials()
        return all(trials[needed].state.is_finished() for needed in self._task.needs(number))

    def _may_start(self, trial: Trial) -> bool:
        """Refuse a trial whose values do not fit together, or into its job."""
        for needed in self._task.needs(trial.number):
            if not self._study.is_complete(needed):
                self._end(trial, self._study.fail, f"it builds on trial {needed}, which failed")
                return False
        training = self._training(trial)
        try:
            problem = find_shortage(training.config(), self._config.resources)
        except ConfigError as error:
            problem = error.what
        if problem is not None:
            self._end(trial, self._study.prune, f"refused: {problem}")
            return False
        values = "  ".join(f"{key}={flow(value)}" for key, value in trial.params.items())
        logger.info("trial %d: %s", trial.number, values)
        return True

    def _start(self, trials: list[Trial], busy: list[Handle]) -> None:
        if not trials:
            return
        jobs = [
            Job(
                f"{self._folder.root.name}-{trial.number:04d}",
                self._folder.job(trial.number),
                self._task.commands(self._training(trial)),
                len(trial.attempts),
            )
            for trial in trials
        ]
        for trial, handle in zip(trials, self._cluster.submit(jobs, busy), strict=True):
            trial.attempts.append({"handle": asdict(handle)})
            self._study.note(trial)

    def _training(self, trial: Trial) -> Training:
        return self._task.training(trial.number, trial.params)

    def _end(self, trial: Trial, tell: Callable[[int, str], None], reason: str) -> None:
        tell(trial.number, reason)
        logger.info("trial %d: ended, %s", trial.number, reason)
        self._on_end()

    def _refuse_to_fail_forever(self) -> None:
        states = [trial.state.name for trial in self._study.trials()]
        if states.count("FAIL") < _TOO_MANY_FAILURES or set(states) - {"FAIL"}:
            return
        last = self._folder.job(len(states) - 1) / "output.log"
        raise LaunchError(
            f"the first {len(states)} trials all failed; the last one wrote:\n{_tail(last)}",
            where=last,
            remedy="mend it, delete the sweep's folder and run the same command again",
        )


def _handle(trial: Trial) -> Handle:
    return Handle(**trial.attempts[-1]["handle"])


def _ending(code: int | None) -> str:
    """What an exit code means, for people."""
    if code is None:
        return "its job died without a word"
    if code == EXIT_STOPPED:
        return "stopped"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(nothing)"
