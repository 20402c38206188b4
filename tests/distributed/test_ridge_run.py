"""Ridge regression as a run like any other: ranks, stops, evaluation, prediction."""

import json
import signal

import numpy as np
import pytest
import torch

from eeg2fmri_dist.config.evaluate import EvaluateConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.evaluation import regional
from eeg2fmri_dist.evaluation.evaluate import evaluate
from eeg2fmri_dist.files.run_folder import is_finished
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.predict import predict_bold
from eeg2fmri_dist.inference.weights import resolve_weights
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.fitting import ridge
from tests.helpers.rank_processes import finish, run_ranks, start_ranks
from tests.helpers.stores import make_store
from tests.helpers.tiny_trainings import wait_for_epochs

ALONE = Ranks(0, 1, 0, 1, "alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ridge")
    make_store(folder / "store.h5", n_subjects=12, n_volumes=100)
    return folder


def command(folder, name, *overrides):
    paths = f"store={folder / 'store.h5'}", f"output={folder / name}"
    return ["launch/train.py", "configs/train/ridge.yaml", *paths, *overrides]


@pytest.fixture(scope="module")
def run(folder):
    run_ranks(command(folder, "one"), 1)
    return folder / "one"


def test_a_run_folder_is_complete_and_a_second_run_changes_nothing(folder, run):
    names = {path.name.split(".")[0] for path in run.iterdir()}
    assert {"config", "provenance", "finished", "log", "checkpoints", "events"} <= names
    (record,) = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert record["validation/r_region"] > 0.6
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "up to date" in run_ranks(command(folder, "one"), 1)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("world_size", [2, pytest.param(5, marks=pytest.mark.faults)])
def test_several_ranks_fit_what_one_does(folder, run, world_size):
    """Neither 6 training nor 3 validation recordings are shared out evenly over all of these."""
    run_ranks(command(folder, f"of-{world_size}"), world_size)
    one, other = (
        load_model(resolve_weights(path, "best")).model.state_dict()
        for path in (run, folder / f"of-{world_size}")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-7, msg=name)


class SignalAfter:
    """Stands for the heartbeat, and asks to stop after some recordings."""

    def __init__(self, count):
        self.left = count

    def note_progress(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("recordings", [1, 6, 7, 9, 10])
def test_a_stopped_fit_leaves_nothing_half_written(folder, tmp_path, recordings):
    values = {"store": folder / "store.h5", "output": tmp_path / "run", "model": {"name": "ridge"}}
    config = TrainConfig.model_validate(values | {"data": {"context": 12}})
    stop, device = StopRequest(), torch.device("cpu")
    try:
        with pytest.raises(StopAskedError):
            ridge.fit(config, Session(ALONE, device, stop, SignalAfter(recordings)))
    finally:
        stop.close()
    assert not list(config.output.rglob("*safetensors*"))
    assert not list(config.output.rglob("*.part"))
    assert not is_finished(config, fingerprint_inputs(config))
    again = StopRequest()
    try:
        ridge.fit(config, Session(ALONE, device, again, SignalAfter(0)))
    finally:
        again.close()
    assert len((config.output / "log.jsonl").read_text().splitlines()) == 1
    load_model(resolve_weights(config.output, "best"))


def assert_quick_scores_are_those_of(metrics, run):
    """`python -m eeg2fmri_dist.evaluation.regional` says what the whole evaluation says."""
    assert regional.main([str(run), "--threads=1"]) == 0
    found = json.loads((run / regional.NAME).read_text())
    variants = metrics["runs"][0]["variants"]
    for name, row, score in (
        ("r_region", "eeg_only", "r_region"),
        ("r_region_shifted", "shifted", "r_region"),
        ("r_region_gsr", "eeg_only", "r_region_gsr"),
        ("r_region_gsr_shifted", "shifted", "r_region_gsr"),
        ("std_ratio", "eeg_only", "std_ratio"),
        ("psnr_zscore_db", "eeg_only", "psnr_zscore_db"),
    ):
        assert found[name] == pytest.approx(variants[row]["scores"][score]["subjects"], rel=1e-4)
    assert "r_driven" not in found
    assert regional.main([str(run), f"--truth={run}"]) == 3  # holds none


@pytest.mark.parametrize("targets", ["voxels", "regions"])
def test_it_is_evaluated_and_predicts_like_any_other_model(folder, run, tmp_path, targets):
    if targets == "regions":
        run = tmp_path / "regions"
        run_ranks(command(folder, run, "model.targets=regions"), 1)
    evaluate(EvaluateConfig(runs=[run], output=tmp_path / "evaluation"))
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert_quick_scores_are_those_of(metrics, run)
    text = (tmp_path / "evaluation" / "report.html").read_text()
    assert "Ridge regression" in text
    assert "does not beat ridge regression" not in text
    (section,) = metrics["runs"]
    eeg_only = section["variants"]["eeg_only"]["scores"]["r_region"]["mean"]
    assert eeg_only > 0.6
    assert abs(section["variants"]["shifted"]["scores"]["r_region"]["mean"]) < 0.3
    if targets == "voxels":  # the baseline is the same fit
        baseline = metrics["baselines"]["ridge"]["scores"]["r_region"]["mean"]
        assert eeg_only == pytest.approx(baseline, abs=1e-5)
    store = Store(folder / "store.h5")
    volumes = predict_bold(load_model(resolve_weights(run, "best")), store.eeg(0, 100))
    assert volumes.shape == (100, *store.grid)
    assert not volumes[:, ~store.layout.mask].any()
    assert np.isfinite(volumes).all()


def test_a_dry_run_says_what_would_be_fitted(folder):
    output = run_ranks(command(folder, "dry", "--dry-run"), 1)
    assert "72 features x 600 voxels" in output
    assert not (folder / "dry").exists()


def start_at_ridge(folder, run, name, *overrides):
    tokens = "tokenizer={name: principal_components, d_token: 16}"
    return [
        *("launch/train.py", "configs/train/transformer.yaml", f"store={folder / 'store.h5'}"),
        *(f"output={folder / name}", tokens, "model.d_model=16", "model.layers=1"),
        *("data.context=12", "data.stride=16"),
        *(f"model.skip_from={run}", "optimization.epochs=2", *overrides),
    ]


def scores_by_epoch(run):
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(len(records)))
    return [record["validation/r_region"] for record in records]


def test_a_transformer_starts_at_the_score_of_ridge_and_is_left_only_for_a_better_one(folder, run):
    ridge = json.loads((run / "log.jsonl").read_text())["validation/r_region"]
    run_ranks(start_at_ridge(folder, run, "high", "optimization.learning_rate=0.3"), 1)
    scores = scores_by_epoch(folder / "high")
    assert scores[0] == pytest.approx(ridge, abs=0.01)  # 16 components of 600 voxels
    assert max(scores[1:]) < scores[0]
    kept = load_model(resolve_weights(folder / "high", "best"))
    assert kept.card.step == 0
    assert "up to date" in run_ranks(
        start_at_ridge(folder, run, "high", "optimization.learning_rate=0.3"), 1
    )


@pytest.mark.parametrize(("margin", "leaves"), [(0, True), (1e6, False)])
def test_a_start_is_left_for_a_gain_above_the_margin(folder, run, margin, leaves):
    name = f"margin-{margin:g}"
    run_ranks(start_at_ridge(folder, run, name, f"optimization.min_improvement_se={margin}"), 1)
    scores = scores_by_epoch(folder / name)
    assert max(scores) > scores[0]
    chosen = load_model(resolve_weights(folder / name, "best")).card.epoch
    assert chosen == (np.argmax(scores) if leaves else 0)


@pytest.mark.faults
def test_a_run_that_is_stopped_at_its_start_goes_on_from_there(folder, run):
    processes = start_ranks(start_at_ridge(folder, run, "stopped"), 2)
    wait_for_epochs(folder / "stopped", 1, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, output = finish(processes)
    assert codes == [75, 75], output
    assert "resumed from" in run_ranks(start_at_ridge(folder, run, "stopped"), 2)
    run_ranks(start_at_ridge(folder, run, "undisturbed"), 2)
    scores = [scores_by_epoch(folder / name) for name in ("stopped", "undisturbed")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_products_of_bands_are_fitted_and_started_at(folder):
    products = folder / "products"
    output = run_ranks(command(folder, "products", "model.quadratic=true"), 1)
    assert "products x " in output
    start = start_at_ridge(folder, products, "with_quadratic", "model.skip_quadratic=true")
    run_ranks(start, 1)
    record = json.loads((products / "log.jsonl").read_text())
    first = scores_by_epoch(folder / "with_quadratic")[0]
    assert first == pytest.approx(record["validation/r_region"], abs=0.01)
    codes, output = finish(start_ranks(start_at_ridge(folder, products, "without"), 1))
    assert codes == [3]
    assert "fitted with quadratic features, the skip is without them" in output
    assert "set model.skip_quadratic=true" in output


def test_ridge_of_other_subjects_is_refused(folder, run):
    command = start_at_ridge(folder, run, "other", "split.seed=3")
    codes, output = finish(start_ranks(command, 1))
    assert codes == [3]
    assert "model.skip_from does not fit: its training subjects" in output
    assert not (folder / "other").exists()


@pytest.fixture(scope="module", params=["log", "power"])
def either(request, tmp_path_factory):
    """A scale of power that BOLD follows, and a folder with a store in which it does."""
    folder = tmp_path_factory.mktemp(request.param)
    make_store(folder / "store.h5", n_subjects=12, n_volumes=100, scale=request.param)
    return request.param, folder


def test_validation_subjects_choose_the_scale_of_the_eeg(either):
    scale, folder = either
    output = run_ranks(command(folder, "chosen"), 2)
    assert f"EEG scale: {scale}" in output
    run_ranks(command(folder, "given", f"data.eeg_scale={scale}"), 1)
    chosen, given = (load_model(resolve_weights(folder / n, "best")) for n in ("chosen", "given"))
    assert chosen.data.eeg_scale == scale
    torch.testing.assert_close(
        chosen.model.state_dict(), given.model.state_dict(), rtol=1e-5, atol=1e-7
    )
    assert "up to date" in run_ranks(command(folder, "chosen"), 1)


def test_a_transformer_takes_the_scale_of_the_ridge_that_it_starts_at(either):
    scale, folder = either
    run_ranks(command(folder, "first"), 1)
    ridge = json.loads((folder / "first" / "log.jsonl").read_text())["validation/r_region"]
    start = start_at_ridge(folder, folder / "first", "second", "data.eeg_scale=auto")
    run_ranks(start, 1)
    assert scores_by_epoch(folder / "second")[0] == pytest.approx(ridge, abs=0.01)
    assert load_model(resolve_weights(folder / "second", "best")).data.eeg_scale == scale
    assert "up to date" in run_ranks(start, 1)
    evaluate(EvaluateConfig(runs=[folder / "second"], output=folder / "evaluation"))
    text = (folder / "evaluation" / "report.html").read_text()
    assert "power, z-scored by recording" in text
    assert ("log power, z-scored" in text) == (scale == "log")


def test_without_ridge_regression_nothing_chooses_the_scale(folder):
    without = ["launch/train.py", "configs/train/unet.yaml", f"store={folder / 'store.h5'}"]
    codes, output = finish(start_ranks([*without, "data.eeg_scale=auto"], 1))
    assert codes == [2]
    assert "set model.skip_from to such a run, or choose log or power" in output
