"""Scripts of pages run as they stand there; keys that pages name are those that are written."""

import json
import re

from eeg2fmri_dist.evaluation.report.page import write_report
from eeg2fmri_dist.evaluation.score_rows import VARIANTS
from eeg2fmri_dist.inference.weights import record_file, training_file, write_manifest
from eeg2fmri_dist.store import Store
from tests.helpers.models import UNET, save_untrained
from tests.helpers.reports import make_report
from tests.helpers.repository import ROOT
from tests.helpers.stores import make_store

API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_script_predicts_a_recording(tmp_path, monkeypatch):
    (script,) = re.findall(r"^```python\n(.*?)^```$", API, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "runs/unet/checkpoints/step-00000001"
    checkpoint.mkdir(parents=True)
    store = Store(make_store(tmp_path / "runs/store.h5"))
    weights = checkpoint / "model.safetensors"
    save_untrained(weights, store, UNET)
    for name in ("state.json", training_file(0, 1)):
        (checkpoint / name).write_text("{}")
    write_manifest(checkpoint, {path.name: record_file(path) for path in checkpoint.iterdir()})
    (checkpoint.parent / "best").write_text(checkpoint.name)
    names = {}
    exec(script, names)
    assert names["predicted"].shape == names["true"].shape
    assert names["r"].shape == (store.layout.mask.sum(),)


def test_metrics_are_read_as_the_page_says(tmp_path, monkeypatch):
    (script,) = re.findall(r"^```python\n(.*?)^```$", EVALUATION, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_report(make_report(), tmp_path / "runs" / "evaluation")
    exec(script.replace('"40"', '"43"'), {})
    content = json.loads((tmp_path / "runs" / "evaluation" / "metrics.json").read_text())
    rows = re.findall(r"^\| `(\w+)(?:\[\])?` \|", EVALUATION, flags=re.MULTILINE)
    assert {"verdict", "variants", "weights_sha256"} <= set(rows)
    assert set(rows) <= content.keys() | content["runs"][0].keys()


def test_the_variants_that_the_page_names_are_those_of_reports():
    (named,) = re.findall(r"^\| `variants` \| (.*) \|$", EVALUATION, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == set(VARIANTS)
