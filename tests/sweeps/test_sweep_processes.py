"""Sweeps with real local jobs and real kills; trials only pretend to train (`fake_train.py`)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from optuna.trial import TrialState

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.optuna_study import Study, is_pruned, make_sampler
from tests.helpers.repository import ROOT

FAKE_SWEEP = Path(__file__).with_name("fake_sweep.py")
EPOCHS = 5


@pytest.fixture
def config_file(tmp_path):
    """Write a sweep config; returns its path."""

    def write(**changes):
        values = {
            "output": str(tmp_path / "sweep"),
            "base": "configs/train/cae.yaml",
            "overrides": {"optimization": {"epochs": EPOCHS}},
            "search": {
                "optimization.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
                "optimization.schedule": {"choices": ["constant", "cosine"]},
                "optimization.warmup_fraction": {
                    "low": 0.0,
                    "high": 0.5,
                    "when": {"optimization.schedule": "cosine"},
                },
            },
            "sampler": {"startup_trials": 3},
            "pruning": {"min_epochs": 1, "reduction": 2},
            "budget": {"trials": 7, "parallel": 1},
            "cluster": "local",
            "poll_s": 0.1,
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return path

    return write


def start(config_path, *overrides, epoch_s=0.02, start_new_session=False):
    return subprocess.Popen(
        [sys.executable, str(FAKE_SWEEP), str(config_path), *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FAKE_EPOCH_S": str(epoch_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=start_new_session,
    )


def finish(process, timeout_s=150):
    output = process.communicate(timeout=timeout_s)[0]
    assert process.returncode == 0, output
    return output


def read(config_path):
    config = load_config(SweepConfig, config_path)
    folder = SweepFolder(config.output)
    return folder, Study(folder, config).trials()


def history(folder, number):
    path = folder.run(number) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(found, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited too long")


def summary(trials):
    return [(t.params, t.state, t.value, t.intermediate_values) for t in trials]


def sequential_search(config):
    """The same study by a plain loop: no jobs, no folders, no driver."""
    import math

    study = optuna.create_study(direction="maximize")
    for number in range(config.budget.trials):
        study.sampler = make_sampler(config.sampler, number)
        trial = study.ask()
        rate = trial.suggest_float("optimization.learning_rate", 1e-5, 1e-1, log=True)
        warmup = 0.05
        if trial.suggest_categorical("optimization.schedule", ["constant", "cosine"]) == "cosine":
            warmup = trial.suggest_float("optimization.warmup_fraction", 0.0, 0.5)
        state, value = TrialState.COMPLETE, None
        for epoch in range(1, EPOCHS + 1):
            value = round(1 - (math.log10(rate) + 3) ** 2 - 0.01 * warmup - 0.5 / epoch, 9)
            trial.report(value, epoch)
            if rate > 0.05:
                state = TrialState.PRUNED
                break
            trials = study.get_trials()
            if epoch < EPOCHS and is_pruned(trials, number, epoch, config.pruning, maximize=True):
                state = TrialState.PRUNED
                break
        study.tell(trial, value if state == TrialState.COMPLETE else None, state)
    return study.get_trials()


def assert_each_ran_once(folder, trials):
    """No trial was run by two processes at a time, none went to its end twice."""
    for trial in trials:
        assert trial.state.is_finished()
        events = history(folder, trial.number)
        ends = [event for event in events if event["event"] == "end"]
        assert len(ends) <= 1
        assert len(ends) == 1 or trial.state != TrialState.COMPLETE
        pids = [event["pid"] for event in events]
        assert [pid for pid, before in zip(pids, [None, *pids], strict=False) if pid != before] == (
            list(dict.fromkeys(pids))
        ), f"two processes took turns in trial {trial.number}"
        epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
        assert epochs == sorted(set(epochs)), f"trial {trial.number} repeated epochs"


def test_a_sweep_killed_again_and_again_equals_a_sequential_search(config_file):
    path = config_file()
    config = load_config(SweepConfig, path)
    kills = 0
    for delay_s in (1.3, 1.9, 2.6, 1.6, 2.2):
        process = start(path)
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    finish(start(path))
    assert kills >= 3
    folder, trials = read(path)
    assert summary(trials) == summary(sequential_search(config))
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert_each_ran_once(folder, trials)
    output = finish(start(path))
    assert "learning_rate=" not in output  # nothing was left to start


def test_two_sweep_processes_share_one_study(config_file):
    path = config_file(
        budget={"trials": 8, "parallel": 3}, sampler={"name": "random"}, pruning=None
    )
    outputs = [finish(process) for process in [start(path), start(path)]]
    folder, trials = read(path)
    assert len(trials) == 8
    assert_each_ran_once(folder, trials)
    assert all(len(t.user_attrs["attempts"]) == 1 for t in trials)
    started = [line for out in outputs for line in out.splitlines() if "learning_rate=" in line]
    assert len(started) == 8


def test_a_killed_training_is_started_again_and_resumes(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, sampler={"seed": 0})
    process = start(path, epoch_s=0.3)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    first = wait_for(lambda: [e for e in history(folder, 0) if e["event"] == "epoch"])
    os.kill(first[0]["pid"], signal.SIGKILL)
    assert "killed by signal 9, starts again" in finish(process)
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert_each_ran_once(folder, trials)
    assert len({event["pid"] for event in history(folder, 0)}) == 2


def test_a_job_that_is_killed_whole_is_reaped_by_a_new_sweep_process(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, sampler={"seed": 0})
    process = start(path, epoch_s=0.5)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    wait_for(lambda: [e for e in history(folder, 0) if e["event"] == "epoch"])
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    assert "its job died without a word, starts again" in finish(start(path))
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert_each_ran_once(folder, trials)


def test_a_training_outlives_its_job_and_is_not_started_beside_it(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, sampler={"seed": 0})
    process = start(path, epoch_s=0.5)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    training = wait_for(lambda: [e for e in history(folder, 0) if e["event"] == "epoch"])
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.pid != training[0]["pid"]:
            child.kill()
    finish(process)
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert {event["pid"] for event in history(folder, 0)} == {training[0]["pid"]}


def test_a_stopped_training_starts_again_without_counting_as_a_death(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, retries=0, sampler={"seed": 0})
    process = start(path, epoch_s=0.3)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    first = wait_for(lambda: [e for e in history(folder, 0) if e["event"] == "epoch"])
    os.kill(first[0]["pid"], signal.SIGTERM)
    assert "stopped cleanly, starts again" in finish(process)
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert [a["ended"] for a in trials[0].user_attrs["attempts"][:-1]] == ["stopped"]
    assert_each_ran_once(folder, trials)


def test_a_trial_that_dies_too_often_fails_and_the_others_go_on(config_file):
    path = config_file(
        budget={"trials": 2}, pruning=None, retries=1, sampler={"name": "random", "seed": 0}
    )
    process = start(path, epoch_s=0.3)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    for start_number in range(2):
        event = wait_for(
            lambda n=start_number: [e for e in history(folder, 0) if e["event"] == "start"][n:]
        )[0]
        os.kill(event["pid"], signal.SIGKILL)
    finish(process)
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[0].user_attrs["reason"] == "killed by signal 9"


def test_ctrl_c_stops_the_trials_too_and_loses_nothing(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, retries=0, sampler={"seed": 0})
    process = start(path, epoch_s=0.5, start_new_session=True)
    folder = SweepFolder(load_config(SweepConfig, path).output)
    wait_for(lambda: [e for e in history(folder, 0) if e["event"] == "epoch"])
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "the same command continues" in output
    assert "Traceback" not in output
    wait_for(lambda: history(folder, 0)[-1]["event"] == "stopped")
    finish(start(path))
    _, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert_each_ran_once(folder, trials)


def test_a_time_limit_ends_a_job_and_the_next_one_resumes(config_file):
    limits = {"hours": 10 / 3600, "grace_s": 4}
    path = config_file(
        budget={"trials": 1}, pruning=None, retries=0, sampler={"seed": 0}, resources=limits
    )
    assert "stopped cleanly, starts again" in finish(start(path, epoch_s=1.5))
    folder, trials = read(path)
    assert [t.state for t in trials] == [TrialState.COMPLETE]
    assert_each_ran_once(folder, trials)


def test_debug_runs_trials_in_the_process_itself(config_file):
    path = config_file(budget={"trials": 2}, pruning=None, sampler={"name": "random", "seed": 0})
    process = start(path, "cluster=debug")
    finish(process)
    folder, trials = read(path)
    assert all(t.state == TrialState.COMPLETE for t in trials)
    assert {e["pid"] for n in range(2) for e in history(folder, n)} == {process.pid}


def test_another_search_on_the_same_folder_is_refused(config_file):
    path = config_file(budget={"trials": 1}, pruning=None, sampler={"seed": 0})
    finish(start(path))
    process = start(path, "search.optimization.learning_rate.low=1.0e-4", "budget.trials=3")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "learning_rate.low: 1e-05 there, 0.0001 now" in output
    assert "budget" not in output
