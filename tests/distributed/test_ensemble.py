"""Several trained runs as one: made, evaluated, exported, predicting the mean of its members."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eeg2fmri_dist.config.evaluate import EvaluateConfig
from eeg2fmri_dist.config.export import ExportConfig
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.evaluation.evaluate import evaluate, why_evaluate
from eeg2fmri_dist.export import publish
from eeg2fmri_dist.files.run_folder import load_run_config
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.predict import predict_bold
from eeg2fmri_dist.inference.weights import locate_weights, resolve_weights
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.planning.plan import checkpoint_bytes
from tests.helpers.rank_processes import finish, run_ranks, start_ranks
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, ridge regression on it, two Transformers that differ in their seed, and both."""
    folder = tmp_path_factory.mktemp("ensemble")
    make_store(folder / "store.h5", n_subjects=12, n_volumes=60)
    run_ranks(train(folder, "ridge", "ridge"), 1)
    tokens = "tokenizer={name: principal_components, d_token: 16}"
    small = "model.d_model=16", "model.layers=1", tokens, "data.context=12", "data.stride=8"
    fast = "optimization.learning_rate=0.01", "optimization.epochs=10"
    for seed in (0, 1):
        command = train(folder, "transformer", f"seed-{seed}")
        run_ranks([*command, *small, *fast, f"optimization.seed={seed}"], 1)
    run_ranks(ensemble(folder, "both"), 1)
    return folder


def train(folder, config, name):
    paths = f"store={folder / 'store.h5'}", f"output={folder / name}"
    return ["launch/train.py", f"configs/train/{config}.yaml", *paths]


def ensemble(folder, name, *overrides, members=("seed-0", "seed-1")):
    listed = ", ".join(str(folder / member) for member in members)
    return [*train(folder, "ensemble", name), f"model.members=[{listed}]", *overrides]


def prediction(weights, power):
    return predict_bold(load_model(weights), power)


def test_it_predicts_the_mean_of_its_members(folder):
    power = Store(folder / "store.h5").eeg(0, 60)
    zero, one, both = (
        prediction(resolve_weights(folder / name, "best"), power)
        for name in ("seed-0", "seed-1", "both")
    )
    scale = np.abs(zero - zero.mean(axis=0)).max()
    assert np.abs(zero - one).max() > 0.01 * scale  # two models indeed
    np.testing.assert_allclose(both, (zero + one) / 2, atol=1e-4 * scale)


def test_it_is_a_run_like_any_other(folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (folder / "both").rglob("*")}
    assert "up to date" in run_ranks(ensemble(folder, "both"), 1)
    assert {path: path.stat().st_mtime_ns for path in (folder / "both").rglob("*")} == before
    (record,) = map(json.loads, (folder / "both" / "log.jsonl").read_text().splitlines())
    assert record["validation/r_region"] > 0.5
    config = EvaluateConfig(runs=[folder / "both", folder / "seed-0"], output=tmp_path)
    assert why_evaluate(config) == "there is no report yet"
    evaluate(config)
    assert why_evaluate(config) is None
    other = config.model_copy(update={"ssim_every": 7})
    assert why_evaluate(other) == "settings.ssim_every changed from 5 to 7"
    fewer = config.model_copy(update={"runs": [folder / "both"]})
    assert "seed-0 changed from" in why_evaluate(fewer)
    runs = json.loads((tmp_path / "metrics.json").read_text())["runs"]
    r = [run["variants"]["eeg_only"]["scores"]["r_region"]["mean"] for run in runs]
    assert r[0] == pytest.approx(r[1], abs=0.1)
    assert runs[0]["variants"]["shifted"]["scores"]["r_region"]["mean"] < 0.3
    text = (tmp_path / "report.html").read_text()
    assert "Ensemble" in text
    assert "seed-0, seed-1" in text


def test_two_ranks_make_the_same(folder):
    run_ranks(ensemble(folder, "by-two"), 2)
    one, two = (load_file(resolve_weights(folder / name, "best")) for name in ("both", "by-two"))
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)
    scores = [json.loads((folder / name / "log.jsonl").read_text()) for name in ("both", "by-two")]
    for name, value in scores[0].items():
        if name.startswith(("validation/", "train/")):
            assert scores[1][name] == pytest.approx(value, rel=1e-4), name


def test_models_of_several_kinds_go_together(folder):
    run_ranks(ensemble(folder, "mixed", members=("seed-0", "ridge")), 1)
    power = Store(folder / "store.h5").eeg(0, 60)
    transformer, ridge, mixed = (
        prediction(resolve_weights(folder / name, "best"), power)
        for name in ("seed-0", "ridge", "mixed")
    )
    scale = np.abs(ridge - ridge.mean(axis=0)).max()
    np.testing.assert_allclose(mixed, (transformer + ridge) / 2, atol=1e-4 * scale)


def test_an_export_tells_no_paths(folder, tmp_path):
    publish(ExportConfig(run=folder / "both", output=tmp_path / "model"))
    exported = locate_weights(tmp_path / "model", "best")
    assert str(folder).encode() not in exported.read_bytes()
    power = Store(folder / "store.h5").eeg(0, 60)
    own = prediction(resolve_weights(folder / "both", "best"), power)
    np.testing.assert_array_equal(prediction(exported, power), own)
    assert "Ensemble that predicts BOLD" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("name", ["ridge", "seed-0", "both"])
def test_the_size_of_a_checkpoint_is_known_beforehand(folder, name):
    """That of a Transformer holds Adam's moments, too."""
    config = load_run_config(folder / name)
    checkpoint = resolve_weights(folder / name, "best").parent
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    assert checkpoint_bytes(config) == pytest.approx(size, rel=0.2)


def test_a_preflight_lets_it_pass(folder):
    assert "preflight" in run_ranks(ensemble(folder, "pre", "--preflight"), 2)


def test_a_dry_run_names_the_members(folder):
    output = run_ranks(ensemble(folder, "dry", "--dry-run"), 1)
    assert "ensemble of 2" in output
    assert "seed-1: transformer, epoch" in output
    assert not (folder / "dry").exists()


@pytest.mark.parametrize(
    ("overrides", "members", "code", "message"),
    [
        (["data.window=16"], ("seed-0", "seed-1"), 3, "its data.window is 32, here it is 16"),
        (["split.seed=3"], ("seed-0", "seed-1"), 3, "its training subjects is"),
        (["split.fractions=[0.5,0.1,0.4]"], ("seed-0", "seed-1"), 3, "chosen on 08, 09, who are"),
        (["recipe=paper"], ("seed-0", "seed-1"), 3, "its recipe is default, here it is paper"),
        (["data.eeg_scale=power"], ("seed-0", "seed-1"), 3, "its data.eeg_scale is log"),
        ([], ("seed-0",), 2, "at least 2 items"),
        ([], ("seed-0", "nowhere"), 3, "no such run folder"),
        ([], ("seed-0", "both"), 3, "here it is transformer, unet or ridge"),
    ],
)
def test_members_that_do_not_fit_are_refused(folder, overrides, members, code, message):
    command = ensemble(folder, "other", *overrides, members=members)
    codes, output = finish(start_ranks(command, 1))
    assert codes == [code], output
    assert message in output
    assert not (folder / "other").exists()


def test_an_ensemble_of_ensembles_is_refused_when_it_is_read(folder, tmp_path):
    source = resolve_weights(folder / "both", "best")
    with safe_open(str(source), framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    card["model"]["members"][0]["model"] = {"name": "ensemble", "members": []}
    path = tmp_path / "model.safetensors"
    save_file(load_file(source), path, metadata={"card": json.dumps(card)})
    with pytest.raises(CheckpointError, match="an ensemble of ensembles"):
        load_model(path)
