"""What the previous version wrote opens in this one: store, run folders, models, scores, sweeps."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file

from eeg2fmri_dist.evaluation.metrics_file import find_scores
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.predict import predict_bold
from eeg2fmri_dist.inference.weights import locate_weights, weights_sha256
from eeg2fmri_dist.store import Store, verify
from tests.helpers.repository import ROOT

# As it was typed then.
TRAINING = (
    "configs/train/transformer.yaml",
    "store=previous/store.h5",
    "output=previous/transformer",
    "optimisation.epochs=2",
    "optimisation.early_stopping=5",
    "optimisation.select_by=r_region",
    "data.window=8",
    "model.d_model=8",
    "model.layers=1",
    "model.num_heads=2",
    "model.teacher_keep=0.5",
    "tokeniser={name: principal_components, d_token: 3}",
)


@pytest.fixture
def previous(tmp_path):
    return shutil.copytree(
        ROOT / "tests" / "data" / "previous_version", tmp_path / "previous", dirs_exist_ok=True
    )


def type_command(previous, verb, config, *arguments, expect=0):
    command = [sys.executable, ROOT / "launch" / f"{verb}.py", ROOT / config, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=previous.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_store_is_whole_and_its_settings_have_todays_names(previous):
    store = Store(previous / "store.h5")
    assert verify(store.path) == []
    assert store.layout.settings["dummy_scans"] == 5
    assert store.layout.settings["source"]["name"] == "noddi"
    assert store.layout.settings["eeg"]["spatial_filter"] == "csd"


@pytest.mark.parametrize("run", ["transformer", "exported"])
def test_a_trained_model_predicts_what_it_did(previous, run):
    power = Store(previous / "store.h5").eeg(0, 31)
    trained = load_model(locate_weights(previous / run, "best"))
    expected = np.load(previous / "transformer" / "expected_volumes.npy")
    np.testing.assert_allclose(predict_bold(trained, power)[[10, 20, 30]], expected, rtol=1e-4)
    assert trained.card.recipe == "default"


def test_the_same_command_finds_the_run_done_and_names_todays_keys(previous):
    said = type_command(previous, "train", *TRAINING)
    assert "previous/transformer is up to date" in said
    assert "optimization.early_stopping is now called optimization.patience" in said
    assert "model.teacher_keep is now called model.teacher_forcing_ratio" in said
    assert "another config" in type_command(
        previous, "train", *TRAINING, "optimisation.epochs=3", expect=2
    )


def test_a_training_that_was_cut_goes_on_to_the_same_weights(previous):
    checkpoints = previous / "transformer" / "checkpoints"
    uncut = load_file(checkpoints / "step-00000002" / "model.safetensors")
    (previous / "transformer" / "finished.json").unlink()
    shutil.rmtree(checkpoints / "step-00000002")
    for pointer in ("latest", "best"):
        (checkpoints / pointer).write_text("step-00000001")
    type_command(previous, "train", *TRAINING)
    resumed = load_file(checkpoints / "step-00000002" / "model.safetensors")
    for name, tensor in uncut.items():
        today = name.replace("tokeniser.", "tokenizer.")
        np.testing.assert_allclose(resumed[today], tensor, rtol=1e-3, atol=1e-5, err_msg=name)


def test_its_scores_are_read_under_todays_names(previous):
    run = previous / "transformer"
    found = find_scores(run, weights_sha256(locate_weights(run, "best")))
    assert {"eeg_only", "shifted", "zero"} <= {row.name for row in found.run.rows}
    written = json.loads((run / "metrics.json").read_text())["runs"][0]["variants"]["free"]
    then = written["scores"]["r_specific"]["mean"]
    assert found.run.row("eeg_only").interval("r_region_gsr").mean == pytest.approx(then)
    assert found.report.title == "EEG to fMRI"
    assert found.run.recipe == "default"


def test_its_runs_are_evaluated_compared_and_exported(previous):
    runs = f"runs=[{previous / 'transformer'},{previous / 'ridge'}]"
    type_command(previous, "evaluate", "configs/evaluate/default.yaml", runs, "output=scored")
    scored = json.loads((previous.parent / "scored" / "metrics.json").read_text())
    assert len(scored["runs"]) == 2
    evaluations = f"evaluations=[{previous / 'exported'},scored]"
    type_command(previous, "compare", "configs/compare/default.yaml", evaluations, "output=both")
    type_command(
        previous, "export", "configs/export/default.yaml", "run=previous/transformer", "output=out"
    )
    assert load_model(previous.parent / "out" / "model.safetensors").card.version == 2


def test_a_finished_sweep_is_shown_and_its_best_config_is_todays(previous):
    search = (
        "output=previous/sweep",
        f"base={ROOT / 'configs/train/transformer.yaml'}",
        "overrides={store: previous/store.h5, optimisation: {epochs: 1}, data: {window: 8}, "
        "model: {d_model: 8, layers: 1, num_heads: 2}, "
        "tokeniser: {name: principal_components, d_token: 3}}",
        "search={optimisation.learning_rate: {choices: [0.001, 0.01]}, "
        "model.teacher_keep: {choices: [0.5]}}",
        "budget.trials=2",
        "cluster=local",
    )
    status = type_command(previous, "sweep", "configs/sweep/demo.yaml", *search, "--status")
    assert "0.0374" in status
    best = type_command(previous, "sweep", "configs/sweep/demo.yaml", *search, "--best")
    assert "teacher_forcing_ratio: 0.5" in best
    assert "optimization:" in best
