"""The main job on a real BOLD run: BIDS folder in, store, models, report and prediction out.

The EEG is simulated without relation to the BOLD (no raw in-scanner EEG is freely available), so a
model that is said to use it would be a fault of the suite.
"""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.store import Store, verify
from tests.helpers.repository import ROOT

pytestmark = pytest.mark.realdata

N_SUBJECTS, N_VOLUMES, N_DROPPED, TR_S = 5, 18, 5, 2.0
MISMATCH = "TR 2 s is used; the NIfTI header says 1.79355 s"
SMALL = "{name: cae, d_token: 8, widths: [8, 16]}"
SMALL_TRANSFORMER = "{name: transformer, d_model: 16, num_heads: 2, layers: 1}"
# Enough test subjects for the report to be able to say "yes".
SPLIT = "split.fractions=[0.2, 0.2, 0.6]"


def run(*command):
    """Run a Python command from the repository; its whole output."""
    finished = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def write_config(folder, text):
    path = folder / "config.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def bids(realdata, folder):
    path = folder / "bids"
    pieces = ("--subjects", N_SUBJECTS, "--volumes", N_VOLUMES)
    run("-m", "preprocessing.simulation.accompany", realdata, path, *pieces)
    return path


@pytest.fixture(scope="module")
def preprocessed(bids, folder):
    """The store and what the command printed."""
    store = folder / "store.h5"
    printed = run(
        "launch/preprocess.py",
        "configs/preprocess/bids.yaml",
        f"source.path={bids}",
        "source.tasks=oneback",
        "source.origin=simulated_eeg",
        f"output={store}",
        "cluster.workers=2",
    )
    return store, printed


@pytest.fixture(scope="module")
def store(preprocessed):
    return Store(preprocessed[0])


@pytest.fixture(scope="module")
def trained(store, folder):
    """Run folders of a small CAE and of a small Transformer on its tokens."""
    cae, transformer = folder / "cae", folder / "transformer"
    common = [f"store={store.path}", SPLIT, "optimization.epochs=2", "threads=1"]
    run("launch/train.py", "configs/train/cae.yaml", f"output={cae}", f"model={SMALL}", *common)
    run(
        "launch/train.py",
        "configs/train/transformer.yaml",
        f"output={transformer}",
        f"tokenizer={cae}",
        f"model={SMALL_TRANSFORMER}",
        "data.window=8",
        "data.context=4",
        *common,
    )
    return cae, transformer


def test_store_is_whole_and_holds_every_volume(store):
    assert verify(store.path) == []
    assert [entry.subject for entry in store.recordings] == ["01", "02", "03", "04", "05"]
    assert store.n_samples == N_SUBJECTS * (N_VOLUMES - N_DROPPED)


def test_published_repetition_time_wins_and_the_mismatch_is_reported(preprocessed, store):
    _, printed = preprocessed
    assert MISMATCH in printed
    for entry in store.recordings:
        assert entry.tr_s == TR_S
        assert entry.quality["tr_mismatch"] == MISMATCH


def test_real_bold_lands_in_the_template(store):
    for entry in store.recordings:
        assert entry.quality["dice"] >= 0.95, entry.key


def test_same_brain_lands_in_the_same_place(store):
    """The pieces are one subject's: registered one by one, their mean images must agree."""
    means = [store.bold_mean(index)[store.layout.mask] for index in range(N_SUBJECTS)]
    # In the scanner they correlate by 0.9998; a few mm of displacement cost more than 0.1.
    assert np.corrcoef(means).min() > 0.85


def test_report_says_what_is_simulated_and_that_the_eeg_is_not_used(trained, folder):
    report = folder / "report"
    runs = ", ".join(map(str, trained))
    settings = f"runs: [{runs}]\noutput: {report}\nssim_every: 15\n"
    run("launch/evaluate.py", write_config(folder, settings))
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["data"]["origin"] == "real BOLD, simulated EEG"
    assert "real BOLD, simulated EEG" in metrics["title"]
    assert "real BOLD, simulated EEG" in (report / "report.html").read_text()
    assert f"sub-01_task-oneback: {MISMATCH}" in metrics["data"]["remarks"]
    cae, transformer = metrics["runs"]
    assert cae["verdict"]["answer"] == "Not asked"
    assert transformer["verdict"]["answer"] in ("No", "Cannot tell")


def test_prediction_is_a_run_in_template_space(trained, bids, store, folder):
    eeg = bids / "sub-05/eeg/sub-05_task-oneback_eeg.vhdr"
    output = folder / "sub-05_predicted.nii.gz"
    config = f"run: {trained[1]}\neeg: {eeg}\noutput: {output}\n"
    run("launch/predict.py", write_config(folder, config))
    image = nib.load(output)
    assert image.shape == (*store.layout.grid, N_VOLUMES - N_DROPPED)
    np.testing.assert_allclose(image.affine, store.layout.affine, atol=1e-4)
    assert image.header.get_zooms()[3] == TR_S
    volumes = image.get_fdata()
    assert not volumes[~store.layout.mask].any()
    assert np.isfinite(volumes).all()
    measured = store.bold_mean(0)[store.layout.mask]
    predicted = volumes.mean(axis=-1)[store.layout.mask]
    assert np.corrcoef(measured, predicted)[0, 1] > 0.95
