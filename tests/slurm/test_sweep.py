"""A sweep on a real Slurm: nodes die, jobs are preempted, the sweep's own process is killed.

Its trials only pretend to train (`tests/sweeps/fake_train.py`).
"""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml
from optuna.trial import TrialState

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.optuna_study import Study
from tests.helpers.repository import ROOT
from tests.slurm import accounting

FAKE_SWEEP = ROOT / "tests" / "sweeps" / "fake_sweep.py"
TRIALS, EPOCHS = 12, 4


def start(slurm, config_path, epoch_s):
    return subprocess.Popen(
        [sys.executable, str(FAKE_SWEEP), str(config_path)],
        cwd=ROOT,
        env=slurm.environment | {"OMP_NUM_THREADS": "1", "FAKE_EPOCH_S": str(epoch_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def history(folder, number):
    path = folder.run(number) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(found, process, timeout_s=90):
    """Wait for something, as long as the sweep runs or was killed by the test."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        assert process.poll() in (None, 0, -9), process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("waited too long")


@pytest.fixture
def config_path(tmp_path):
    path = tmp_path / "sweep.yaml"
    values = {
        "output": str(tmp_path / "sweep"),
        "base": "configs/train/cae.yaml",
        "overrides": {"optimization": {"epochs": EPOCHS}},
        "search": {"optimization.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}},
        "sampler": {"name": "random", "seed": 1},
        "budget": {"trials": TRIALS, "parallel": 4},
        "cluster": "auto",
        "poll_s": 0.3,
        "resources": {"cpus_per_task": 1, "gpus_per_node": 1, "hours": 1},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def running_jobs(slurm):
    lines = slurm.call("squeue", "--noheader", "--array", "--states=R", "--format=%i %N").split(
        "\n"
    )
    return [line.split() for line in lines if line]


@pytest.mark.faults
def test_twelve_trials_survive_a_dead_node_a_preemption_and_two_kills(slurm, config_path):
    config = load_config(SweepConfig, config_path)
    folder = SweepFolder(config.output)
    process = start(slurm, config_path, epoch_s=1.0)
    wait_for(lambda: history(folder, 0) and history(folder, 3), process)
    process.kill()
    process.wait()
    victim = wait_for(lambda: running_jobs(slurm), process)[0][0]
    slurm.call("scontrol", "requeue", victim)
    process = start(slurm, config_path, epoch_s=0.5)
    wait_for(lambda: history(folder, 4), process)
    wait_for(lambda: any(node == "n2" for _, node in running_jobs(slurm)), process)
    slurm.kill_node("n2")
    try:
        process.kill()
        process.wait()
        process = start(slurm, config_path, epoch_s=0.1)
        wait_for(lambda: history(folder, 8), process)
    finally:
        slurm.revive_node("n2")
    output = process.communicate(timeout=150)[0]
    assert process.returncode == 0, output
    trials = Study(folder, config).trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * TRIALS
    for trial in trials:
        events = history(folder, trial.number)
        assert [event["event"] for event in events].count("end") == 1
        epochs = [event["epoch"] for event in events if event["event"] == "epoch"]
        assert epochs == list(range(1, EPOCHS + 1)), f"trial {trial.number}: {events}"
        assert trial.user_attrs["attempts"][0]["handle"]["cluster"] == "slurm"
    assert best_of_a_sequential_search(config) == max(trials, key=lambda t: t.value).params
    first = [t.user_attrs["attempts"][0]["handle"]["job_id"] for t in trials[:4]]
    assert [job_id.split("_")[1:] for job_id in first] == [["0"], ["1"], ["2"], ["3"]]
    assert not slurm.call("squeue", "--noheader")


def best_of_a_sequential_search(config):
    import math

    import optuna

    from eeg2fmri_dist.sweep.optuna_study import make_sampler

    study = optuna.create_study(direction="maximize")
    for number in range(TRIALS):
        study.sampler = make_sampler(config.sampler, number)
        trial = study.ask()
        rate = trial.suggest_float("optimization.learning_rate", 1e-5, 1e-2, log=True)
        study.tell(trial, -((math.log10(rate) + 3) ** 2))
    return study.best_params


def test_a_pruned_trial_leaves_the_queue(slurm, config_path):
    values = yaml.safe_load(config_path.read_text())
    values |= {
        "pruning": {"min_epochs": 1, "reduction": 4},
        "overrides": {"optimization.epochs": 20},
    }
    values["budget"] = {"trials": 4, "parallel": 4}
    config_path.write_text(yaml.safe_dump(values))
    config = load_config(SweepConfig, config_path)
    folder = SweepFolder(config.output)
    process = start(slurm, config_path, epoch_s=0.5)
    output = process.communicate(timeout=150)[0]
    assert process.returncode == 0, output
    trials = Study(folder, config).trials()
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 4
    pruned = [trial.number for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for number in pruned:
        assert history(folder, number)[-1]["event"] == "stopped"


def test_how_a_job_died_is_read_from_the_accounts_of_slurm(slurm, config_path):
    if slurm.accounting is None:
        pytest.skip(f"no accounting here; apt-get install {accounting.INSTALL}")
    values = yaml.safe_load(config_path.read_text())
    values["budget"], values["retries"] = {"trials": 1}, 0
    config_path.write_text(yaml.safe_dump(values))
    config = load_config(SweepConfig, config_path)
    folder = SweepFolder(config.output)
    process = start(slurm, config_path, epoch_s=30)
    ((job_id, node),) = wait_for(lambda: running_jobs(slurm), process)
    wait_for(lambda: history(folder, 0), process)
    slurm.call("scancel", "--signal=KILL", "--full", job_id)
    process.communicate(timeout=60)
    (trial,) = Study(folder, config).trials()
    assert trial.state == TrialState.FAIL
    ended = trial.user_attrs["attempts"][0]["ended"]
    assert ended.endswith(f"(Slurm: CANCELLED by {os.getuid()} on {node})")


def test_a_request_that_slurm_refuses_is_told_and_can_be_mended(slurm, config_path):
    refused = subprocess.run(
        [sys.executable, str(FAKE_SWEEP), str(config_path), "resources.partition=nowhere"],
        cwd=ROOT,
        env=slurm.environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 4
    assert "invalid partition" in refused.stderr.lower()
    assert "Traceback" not in refused.stderr
    config = load_config(SweepConfig, config_path, ["budget.trials=4"])
    config_path.write_text(config_path.read_text().replace(f"trials: {TRIALS}", "trials: 4"))
    process = start(slurm, config_path, epoch_s=0.05)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    trials = Study(SweepFolder(config.output), config).trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4


def test_a_trial_of_two_nodes_trains_as_one(slurm, config_path, tmp_path):
    from tests.helpers.stores import make_store

    make_store(tmp_path / "store.h5", n_subjects=4, n_volumes=20)
    values = yaml.safe_load(config_path.read_text())
    values["overrides"] = {
        "store": str(tmp_path / "store.h5"),
        "threads": 1,
        "optimization": {"epochs": 2},
        "model": {"widths": [8, 16], "d_token": 8},
    }
    values["budget"] = {"trials": 1}
    values["resources"] = {"nodes": 2, "cpus_per_task": 1, "hours": 1}
    config_path.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [sys.executable, "launch/sweep.py", str(config_path)],
        cwd=ROOT,
        env=slurm.environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=230,
    )
    folder = SweepFolder(load_config(SweepConfig, config_path).output)
    written = (folder.job(0) / "output.log").read_text()
    assert done.returncode == 0, written
    assert "2 rank(s)" in written
    assert (folder.run(0) / "finished.json").exists()


def test_trials_that_a_more_urgent_job_preempts_resume_without_counting_as_deaths(
    slurm, config_path
):
    values = yaml.safe_load(config_path.read_text())
    values["budget"], values["retries"] = {"trials": 2, "parallel": 2}, 0
    config_path.write_text(yaml.safe_dump(values))
    config = load_config(SweepConfig, config_path)
    folder = SweepFolder(config.output)
    process = start(slurm, config_path, epoch_s=2.0)
    wait_for(lambda: history(folder, 0) and history(folder, 1), process)
    slurm.call("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "sleep 1")
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    for trial in Study(folder, config).trials():
        assert trial.state == TrialState.COMPLETE
        events = [event["event"] for event in history(folder, trial.number)]
        assert events.count("stopped") == 1
        assert events.count("epoch") == EPOCHS
