"""An exported model: what its card says, what it keeps to itself, that it predicts the same."""

import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors import safe_open

from eeg2fmri_dist.config import to_yaml
from eeg2fmri_dist.config.export import ExportConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import CheckpointError, ConfigError
from eeg2fmri_dist.evaluation.metrics_file import find_scores
from eeg2fmri_dist.evaluation.report.page import write_report
from eeg2fmri_dist.export import publish
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.predict import predict_bold
from eeg2fmri_dist.inference.weights import (
    STATE,
    WEIGHTS,
    locate_weights,
    record_file,
    training_file,
    weights_sha256,
    write_manifest,
)
from eeg2fmri_dist.store import Store
from tests.helpers.models import UNET, save_untrained
from tests.helpers.reports import make_report, row, run
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Run folder with one checkpoint, and its store."""
    folder = tmp_path_factory.mktemp("run")
    store = Store(make_store(folder / "s.h5"))
    checkpoint = folder / "run" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    save_untrained(checkpoint / WEIGHTS, store, UNET)
    for name in (STATE, training_file(0, 1)):
        (checkpoint / name).write_text("{}")
    names = (WEIGHTS, STATE, training_file(0, 1))
    write_manifest(checkpoint, {name: record_file(checkpoint / name) for name in names})
    (checkpoint.parent / "best").write_text(checkpoint.name)
    config = TrainConfig.model_validate(
        {"store": store.path, "output": folder / "run", "model": UNET}
    )
    (folder / "run" / "config.yaml").write_text(to_yaml(config))
    return folder / "run", store


@pytest.fixture
def exported(original, tmp_path):
    """Export a copy of the run, with its scores; returns the folder."""
    shutil.copytree(original[0], tmp_path / "run")
    weights = locate_weights(tmp_path / "run", "best")
    scored = {"weights_sha256": weights_sha256(weights)}
    report = make_report(leaks=False)
    models = [
        run(row("eeg_only", 0.4, 0.001), row("shifted", 0.02), **scored),
        run(row("eeg_only", 0)),
    ]
    write_report(
        type(report)(report.title, report.data, models, report.baselines), tmp_path / "run"
    )
    publish(ExportConfig(run=tmp_path / "run", output=tmp_path / "out", license="cc-by-4.0"))
    return tmp_path / "out"


def test_it_predicts_the_same(original, exported):
    run_folder, store = original
    power = store.eeg(0, 40)
    ours, theirs = (load_model(locate_weights(folder, "best")) for folder in (exported, run_folder))
    np.testing.assert_array_equal(predict_bold(ours, power), predict_bold(theirs, power))


def test_the_card_names_data_scores_controls_limits_and_use(exported):
    card = (exported / "README.md").read_text()
    for text in (
        "license: cc-by-4.0",
        "Not a medical device",
        "## Training data and split",
        "01, 02",
        "split `by_subject`",
        "| True EEG | 0.40",
        "| Shifted EEG | 0.02",
        "| Training-mean image |",
        "## Intended use",
        "## Limits",
        "mean image of the 2 training subjects",
        "individual anatomy",
    ):
        assert text in card
    assert not re.search(r"\{[{%]|\n{4}", card)


def test_scores_go_with_the_weights(exported):
    weights = locate_weights(exported, "best")
    model_scores = find_scores(exported / "metrics.json", weights_sha256(weights))
    assert model_scores.verdict.answer == "Yes"
    assert len(model_scores.report.runs) == 1


def test_without_scores_the_card_says_so(original, tmp_path):
    publish(ExportConfig(run=original[0], output=tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Nobody has said" in card
    assert "license: unknown" in card
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_scores_of_other_weights_are_refused(original, tmp_path):
    write_report(make_report(), tmp_path)
    with pytest.raises(ConfigError, match="no scores of these weights"):
        publish(
            ExportConfig(run=original[0], output=tmp_path / "o", scores=tmp_path / "metrics.json")
        )


def test_no_path_of_the_machine_goes_with_the_weights(original, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(original[0], run_folder)
    checkpoint = run_folder / "checkpoints" / "step-00000001"
    trained = load_model(checkpoint / WEIGHTS)
    secret = {
        "source": {"path": "/home/alice/secret", "origin": "simulated", "task": "rest"},
        "output": "/home/alice/store.h5",
        "atlas": {"path": "/home/alice/fsl"},
        "cluster": {"interface": "ib0"},
        "dummy_scans": 5,
    }
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / WEIGHTS)
    card = asdict(trained.card) | {"preprocessing": secret}
    save_file(tensors, checkpoint / WEIGHTS, metadata={"card": json.dumps(card)})
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    write_manifest(checkpoint, manifest | {WEIGHTS: record_file(checkpoint / WEIGHTS)})
    publish(ExportConfig(run=run_folder, output=tmp_path / "out"))
    with safe_open(tmp_path / "out" / WEIGHTS, framework="pt") as file:
        told = file.metadata()["card"]
    assert "alice" not in told
    assert "ib0" not in told
    assert json.loads(told)["preprocessing"]["dummy_scans"] == 5
    assert "simulated data" in (tmp_path / "out" / "README.md").read_text()
    for path in (tmp_path / "out").iterdir():
        assert b"alice" not in path.read_bytes()


def test_a_damaged_export_is_refused(exported):
    content = bytearray((exported / WEIGHTS).read_bytes())
    content[-10] ^= 1
    (exported / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="differs from what was written"):
        locate_weights(exported, "best")


def test_a_run_folder_is_not_written_over(original):
    with pytest.raises(ConfigError, match="the output is a run folder"):
        publish(ExportConfig(run=original[0], output=original[0]))


def test_a_pickle_in_the_place_of_exported_weights_is_not_run(exported, tmp_path):
    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "it-ran"), "w")

    torch.save({"state": Hostile()}, exported / WEIGHTS)
    (exported / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="not a model of this suite"):
        load_model(locate_weights(exported, "best"))
    assert not (tmp_path / "it-ran").exists()
