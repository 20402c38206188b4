"""The script of docs/api.md runs as it stands there."""

import re

from eeg2fmri_dist.inference.weights import record_file, training_file, write_manifest
from eeg2fmri_dist.store import Store
from tests.helpers.models import UNET, save_untrained
from tests.helpers.repository import ROOT
from tests.helpers.stores import make_store

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_script_predicts_a_recording(tmp_path, monkeypatch):
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
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
