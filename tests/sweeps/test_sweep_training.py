"""A sweep of real trainings on a tiny store, killed on the way."""

import contextlib
import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.optuna_study import Study
from tests.helpers.rank_processes import ROOT
from tests.helpers.stores import make_store

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def launch(verb, *arguments):
    return subprocess.Popen(
        [sys.executable, f"launch/{verb}.py", *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout_s=240):
    output, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, errors
    return output


def losses(run):
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(r["epoch"], r["step"], r["train/loss_epoch"], r["validation/loss"]) for r in records]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep of three CAEs; its process and the first training were killed."""
    folder = tmp_path_factory.mktemp("swept")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    path = folder / "sweep.yaml"
    values = {
        "output": str(folder / "sweep"),
        "base": "configs/train/cae.yaml",
        "overrides": {
            "store": str(folder / "store.h5"),
            "threads": 1,
            "optimization": {"epochs": 30, "batch_size": 20},
            "model": {"d_token": 8},
        },
        "search": {
            "optimization.learning_rate": {"choices": [0.003, 1.0e-6]},
            "model.widths": {"choices": [[8, 16], [8]]},
        },
        "sampler": {"name": "grid"},
        "objective": {"metric": "validation/loss", "direction": "minimize"},
        "pruning": {"min_epochs": 2, "reduction": 2},
        "budget": {"trials": 3},
        "poll_s": 0.5,
        "cluster": "local",
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    process = launch("sweep", path)
    first = folder / "sweep" / "trials" / "0000"
    deadline = time.monotonic() + 120
    while not (first / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.communicate()
    finish(launch("sweep", path))
    return path


def test_every_trial_ends_once_and_a_bad_one_is_pruned(swept):
    config = load_config(SweepConfig, swept)
    trials = Study(SweepFolder(config.output), config).trials()
    assert [t.number for t in trials] == [0, 1, 2]
    assert trials[0].state.name == "COMPLETE"
    assert trials[1].state.is_finished()
    assert trials[2].params["optimization.learning_rate"] == 1e-6
    assert trials[2].state.name == "PRUNED"
    assert [len(t.user_attrs["attempts"]) for t in trials] == [2, 1, 1]


def test_a_trial_equals_the_training_done_by_hand(swept, tmp_path):
    config = load_config(SweepConfig, swept)
    folder = SweepFolder(config.output)
    by_hand = tmp_path / "by-hand"
    values = ["optimization.learning_rate=0.003", "model.widths=[8, 16]"]
    finish(launch("train", folder.base("base"), *values, f"output={by_hand}"))
    assert losses(folder.run(0)) == losses(by_hand)


def test_best_is_a_config_that_launch_train_takes(swept, tmp_path):
    config = load_config(SweepConfig, swept)
    best = tmp_path / "best.yaml"
    best.write_text(finish(launch("sweep", swept, "--best")))
    trained = load_config(TrainConfig, best)
    assert trained.optimization.learning_rate == 0.003
    assert trained.output == config.output / "best"
    assert "cae" in finish(launch("train", best, "--dry-run"))


def test_tensorboard_shows_every_trial_with_its_values(swept):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    folder = SweepFolder(load_config(SweepConfig, swept).output)
    rates = []
    for number in range(3):
        events = EventAccumulator(str(folder.run(number)))
        events.Reload()
        summaries = events.SummaryMetadata("_hparams_/session_start_info")
        data = plugin_data_pb2.HParamsPluginData.FromString(summaries.plugin_data.content)
        assert summaries.plugin_data.plugin_name == metadata.PLUGIN_NAME
        hparams = data.session_start_info.hparams
        rates.append(hparams["optimization.learning_rate"].number_value)
        assert hparams["model.widths"].string_value in ("[8, 16]", "[8]")
        assert "sweep/validation_loss" in events.Tags()["scalars"]
    assert rates == [0.003, 0.003, 1e-6]


def test_debug_trains_one_trial_after_the_other_in_its_own_process(tmp_path):
    make_store(tmp_path / "store.h5", n_subjects=3, n_volumes=20)
    path = tmp_path / "sweep.yaml"
    values = {
        "output": str(tmp_path / "sweep"),
        "base": "configs/train/cae.yaml",
        "overrides": {
            "store": str(tmp_path / "store.h5"),
            "threads": 1,
            "optimization": {"epochs": 1},
            "model": {"d_token": 8, "widths": [8]},
        },
        "search": {"optimization.learning_rate": {"choices": [0.003, 0.001]}},
        "sampler": {"name": "grid"},
        "cluster": "debug",
    }
    path.write_text(yaml.safe_dump(values))
    process = launch("sweep", path)
    finish(process)
    config = load_config(SweepConfig, path)
    trials = Study(SweepFolder(config.output), config).trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE"]
    job_ids = {t.user_attrs["attempts"][0]["handle"]["job_id"] for t in trials}
    assert job_ids == {str(process.pid)}
