"""The driver against a cluster that exists only in memory, under any order of events."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.errors import ConfigError, LaunchError
from eeg2fmri_dist.sweep.driver import Driver
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.optuna_study import Study
from eeg2fmri_dist.sweep.run import make_task
from tests.sweeps.fake_cluster import EPOCHS, DriverKilledError, FakeCluster, act


@pytest.fixture
def make_config(tmp_path):
    def make(**changes):
        values = {
            "output": tmp_path / "sweep",
            "base": "configs/train/cae.yaml",
            "overrides": {"optimization.epochs": EPOCHS},
            "search": {"optimization.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}},
            "sampler": {"name": "random"},
            "pruning": {"min_epochs": 1, "reduction": 2},
            "budget": {"trials": 4, "parallel": 2},
            "retries": 1,
        }
        return SweepConfig.model_validate(values | changes)

    return make


def open_driver(config, cluster):
    folder = SweepFolder(config.output)
    task = make_task(config, folder)
    folder.claim(config, task.bases())
    study = Study(folder, config)
    return Driver(config, folder, study, task, cluster), study


events = st.lists(
    st.tuples(
        st.sampled_from(["epoch", "epoch", "epoch", "die", "stop", "diverge", "kill", "lose"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=events)
def test_every_trial_ends_exactly_once_whatever_happens(make_config, events):
    config = make_config(
        output=Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    cluster = FakeCluster()
    driver, study = open_driver(config, cluster)
    deaths, ended = {}, {}
    try:
        for event, which in [*events, *([("epoch", 0)] * 200)]:
            try:
                if driver.turn():
                    break
            except DriverKilledError:
                driver, study = open_driver(config, cluster)
                continue
            except LaunchError:
                assert {t.state for t in study.trials()} == {TrialState.FAIL}
                break
            for number, state in ended.items():
                assert study.trials()[number].state == state, "a trial ended twice"
            ended = {t.number: t.state for t in study.trials() if t.state.is_finished()}
            jobs = sorted(cluster.alive_folders())
            assert len(jobs) <= config.budget.parallel
            if event == "kill":
                driver, study = open_driver(config, cluster)
            elif event == "lose":
                cluster.dies_in_submit = True
            elif jobs:
                act(cluster, event, jobs[which % len(jobs)], deaths)
        else:
            raise AssertionError("the sweep did not end")
        check(config, study, deaths)
    finally:
        shutil.rmtree(config.output)


def check(config, study, deaths):
    for trial in study.trials():
        name = f"{trial.number:04d}"
        assert trial.state.is_finished()
        assert deaths.get(name, 0) <= config.retries + 1
        if trial.state == TrialState.FAIL:
            assert deaths[name] == config.retries + 1
        if trial.state == TrialState.COMPLETE:
            assert (config.output / "trials" / name / "finished.json").exists()
            assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
            assert trial.value == max(trial.intermediate_values.values())


def test_values_that_do_not_fit_together_are_refused_before_they_queue(make_config):
    search = {"model.num_heads": {"choices": [2, 3]}, "model.d_model": {"choices": [16, 32]}}
    config = make_config(
        base="configs/train/transformer.yaml", search=search, sampler={"name": "grid"}, budget={}
    )
    cluster = FakeCluster()
    driver, study = open_driver(config, cluster)
    for _ in range(100):
        for job in sorted(cluster.alive_folders()):
            act(cluster, "epoch", job, {})
        if driver.turn():
            break
    refused = [t for t in study.trials() if "refused" in t.user_attrs.get("reason", "")]
    assert [t.params["model.num_heads"] for t in refused] == [3, 3]
    assert "must divide d_model" in refused[0].user_attrs["reason"]
    assert {folder.name for folder, _ in cluster.submissions} == {"0000", "0001"}


def test_a_misspelt_key_is_refused_at_once(make_config):
    search = {"optimization.learning_rat": {"low": 1e-5, "high": 1e-2}}
    config = make_config(search=search)
    with pytest.raises(ConfigError, match=r"did you mean 'optimization\.learning_rate'"):
        open_driver(config, FakeCluster())


def test_an_unknown_metric_stops_the_sweep_and_names_those_there_are(make_config):
    config = make_config(objective={"metric": "validation/r"})
    cluster = FakeCluster()
    driver, _ = open_driver(config, cluster)
    driver.turn()
    for _ in range(EPOCHS):
        act(cluster, "epoch", min(cluster.alive_folders()), {})
    with pytest.raises(ConfigError, match="validation/r_region"):
        driver.turn()


def test_hours_of_the_budget_start_no_more_trials(make_config):
    config = make_config(budget={"hours": 1e-9, "parallel": 1})
    cluster = FakeCluster()
    driver, study = open_driver(config, cluster)
    for _ in range(EPOCHS + 3):
        if driver.turn():
            break
        for job in sorted(cluster.alive_folders()):
            act(cluster, "epoch", job, {})
    assert [t.state for t in study.trials()] == [TrialState.COMPLETE]


def test_an_unfinished_last_line_of_the_journal_is_dropped(make_config):
    config = make_config()
    driver, study = open_driver(config, FakeCluster())
    driver.turn()
    before = len(study.trials())
    with SweepFolder(config.output).journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    driver.turn()
    driver, study = open_driver(config, FakeCluster())
    assert len(study.trials()) == before
