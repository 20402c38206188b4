"""The main job as a user types it, on small simulated recordings in the real formats."""

import json
import os
import re
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pybv
import pytest
from nilearn.maskers import NiftiLabelsMasker
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from eeg2fmri_dist.store import Store, verify
from preprocessing.layouts.noddi import eeg_header
from preprocessing.template.mni import grid_affine
from tests.helpers.repository import ROOT
from tests.helpers.stores import make_store

SUBJECTS = ["32", "38", "43"]
N_VOLUMES = 20


def verb(name, config, *overrides, expect=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, f"launch/{name}.py", config, *map(str, overrides)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = done.stdout + done.stderr
    assert done.returncode == expect, output
    if expect:
        assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Run simulation, preprocessing, training, evaluation and prediction once."""
    folder = tmp_path_factory.mktemp("job")
    for name, config, *overrides in commands(folder):
        verb(name, config, *overrides)
    return folder


def commands(folder):
    train = (f"store={folder / 'store.h5'}", "optimization.epochs=1")
    tokens = "tokenizer={name: principal_components, d_token: 3}"
    return [
        (
            "simulate",
            "configs/simulate/demo.yaml",
            f"output={folder / 'recordings'}",
            f"subjects={json.dumps(SUBJECTS)}",
            f"n_volumes={N_VOLUMES}",
        ),
        (
            "preprocess",
            "configs/preprocess/demo.yaml",
            f"source.path={folder / 'recordings'}",
            f"output={folder / 'store.h5'}",
            "bold.transform=affine",
            "bold.grid=[32, 32, 15]",
            "cluster.workers=2",
        ),
        (
            "train",
            "configs/train/cae.yaml",
            *train,
            f"output={folder / 'cae'}",
            "model.widths=[8,16]",
            "model.d_token=8",
        ),
        (
            "train",
            "configs/train/transformer.yaml",
            *train,
            f"output={folder / 'transformer'}",
            "data.window=8",
            "model.d_model=16",
            tokens,
        ),
        (
            "evaluate",
            "configs/evaluate/default.yaml",
            f"runs=[{folder / 'transformer'}, {folder / 'cae'}]",
            f"output={folder / 'evaluation'}",
            "calibration_volumes=[0, 6]",
        ),
        (
            "predict",
            "configs/predict/demo.yaml",
            f"run={folder / 'transformer'}",
            f"eeg={eeg_of_test_subject(folder)}",
            f"output={folder / 'predicted.nii.gz'}",
        ),
    ]


def eeg_of_test_subject(folder):
    return eeg_header(folder / "recordings", "43", "raw")


def test_the_store_is_whole_and_read_by_h5py_alone(job):
    import h5py

    assert verify(job / "store.h5") == []
    with h5py.File(job / "store.h5") as store:
        assert store["bold"].shape == (3 * (N_VOLUMES - 5), 32, 32, 15)
        assert store["eeg"].shape == (3 * (N_VOLUMES - 5), 63, 30)
        mask = store["mask"][:].astype(bool)
        assert (store["bold"][:][:, ~mask] == 0).all()
        assert np.allclose(store["affine"][:], grid_affine((32, 32, 15)))
        assert np.isfinite(store["eeg"][:]).all()


def test_the_prediction_is_a_bold_run_in_mni_space(job):
    image = nib.load(job / "predicted.nii.gz")
    assert image.shape == (32, 32, 15, N_VOLUMES - 5)
    np.testing.assert_allclose(image.affine, grid_affine((32, 32, 15)), atol=1e-4)
    assert image.header.get_zooms()[3] == pytest.approx(2.16)
    assert image.header["sform_code"] == 4  # MNI
    sidecar = json.loads((job / "predicted.json").read_text())
    assert sidecar["RepetitionTime"] == pytest.approx(2.16)
    assert sidecar["TrainingSubjects"] == ["32"]
    # The name that the user gave it.
    assert "<h1>predicted: BOLD" in (job / "predicted.html").read_text()
    volumes, mask = image.get_fdata(), Store(job / "store.h5").layout.mask
    assert (volumes[~mask] == 0).all()
    assert (volumes[mask].mean(axis=1) > 0).mean() > 0.95


def test_scores_are_those_of_nilearn_and_scikit_image_on_the_exported_files(job, tmp_path):
    store = Store(job / "store.h5")
    (key,) = (entry.key for entry in store.recordings if entry.subject == "43")
    export = [sys.executable, "-m", "eeg2fmri_dist.store", "export", str(job / "store.h5"), key]
    subprocess.run([*export, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    (true_path,) = tmp_path.glob("*.nii.gz")
    name, atlas = next(iter(store.layout.atlases.items()))
    labels = nib.Nifti1Image(atlas.labels.astype(np.int32), store.layout.affine)
    masker = NiftiLabelsMasker(labels, detrend=True, standardize=None, verbose=0)
    predicted, true = (
        masker.fit_transform(str(path)) for path in (job / "predicted.nii.gz", true_path)
    )
    r = [np.corrcoef(pair)[0, 1] for pair in zip(predicted.T, true.T, strict=True)]
    metrics = json.loads((job / "evaluation" / "metrics.json").read_text())
    eeg_only = metrics["runs"][0]["variants"]["eeg_only"]
    assert name in metrics["data"]["atlas"]
    assert eeg_only["scores"]["r_region"]["subjects"]["43"] == pytest.approx(np.mean(r), abs=2e-3)
    np.testing.assert_allclose(eeg_only["regions"]["subjects"]["43"], r, atol=0.02)
    predicted, true = (nib.load(path).get_fdata() for path in (job / "predicted.nii.gz", true_path))
    psnr = peak_signal_noise_ratio(true, predicted, data_range=np.ptp(true))
    assert eeg_only["scores"]["psnr_zscore_db"]["subjects"]["43"] == pytest.approx(psnr, abs=1e-3)
    ssim = []
    for volumes in zip(
        np.moveaxis(predicted, -1, 0)[::5], np.moveaxis(true, -1, 0)[::5], strict=True
    ):
        scaled = [(v - v.min()) / np.ptp(v) for v in volumes]
        options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5}
        options["use_sample_covariance"] = False
        slices = zip(*(np.moveaxis(v, 2, 0) for v in scaled), strict=True)
        ssim.append(np.mean([structural_similarity(*pair, **options) for pair in slices]))
    found = eeg_only["scores"]["ssim2d_minmax"]["subjects"]["43"]
    assert found == pytest.approx(np.mean(ssim), abs=1e-3)


def test_the_report_calls_simulated_data_simulated(job):
    page = (job / "evaluation" / "report.html").read_text()
    assert "simulated data" in page
    metrics = json.loads((job / "evaluation" / "metrics.json").read_text())
    names = {run["model"] for run in metrics["runs"]}
    assert names == {"transformer", "cae"}
    transformer = next(run for run in metrics["runs"] if run["model"] == "transformer")
    # One test subject cannot show it.
    assert transformer["verdict"]["answer"] != "Yes"
    assert {"eeg_only", "shifted", "zero", "teacher_forced"} <= transformer["variants"].keys()
    assert {"training_mean", "ridge", "last_volume"} <= metrics["baselines"].keys()


def test_every_command_typed_again_finds_its_work_done(job):
    before = {path: path.stat().st_mtime_ns for path in job.rglob("*") if path.is_file()}
    for name, config, *overrides in commands(job)[1:]:
        assert "up to date" in verb(name, config, *overrides)
    changed = [
        path
        for path, mtime in before.items()
        if path.exists() and path.stat().st_mtime_ns != mtime and path.suffix != ".json"
    ]
    assert [path for path in changed if path.suffix in (".h5", ".html", ".gz")] == []


@pytest.mark.parametrize("name", ["preprocess", "train", "evaluate", "predict"])
def test_a_dry_run_says_what_and_changes_nothing(job, name):
    command = next(entry for entry in commands(job) if entry[0] == name)
    assert verb(*command, "--dry-run").strip()


def test_eeg_without_the_channels_of_the_model_is_refused(job, tmp_path):
    rng = np.random.default_rng(0)
    onsets = (np.arange(12) * 2.16 + 1) * 500
    names = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]
    pybv.write_brainvision(
        data=1e-5 * rng.standard_normal((len(names), 500 * 30)),
        sfreq=500,
        ch_names=names,
        fname_base="few",
        folder_out=tmp_path,
        events=[{"onset": int(o), "type": "Response", "description": 128} for o in onsets],
    )
    output = verb(*predict_command(job, tmp_path, eeg=tmp_path / "few.vhdr"), expect=3)
    assert "53 of the 63 channels" in output
    assert "CPz" in output


def respelled_eeg(job, folder, spell):
    """Test subject's EEG under other channel names; returns its header."""
    header = eeg_of_test_subject(job)
    for path in header.parent.glob(f"{header.stem}.*"):
        if path != header:
            (folder / f"respelled{path.suffix}").symlink_to(path)
    text = header.read_text(encoding="utf-8")
    names = re.compile(r"^(Ch\d+=)([^,]+)", re.MULTILINE)
    (folder / "respelled.vhdr").write_text(
        names.sub(lambda found: found[1] + spell(found[2]), text), encoding="utf-8"
    )
    return folder / "respelled.vhdr"


def test_eeg_with_channels_in_capitals_gives_the_same_prediction(job, tmp_path):
    output = verb(*predict_command(job, tmp_path, eeg=respelled_eeg(job, tmp_path, str.upper)))
    assert "channels taken by another spelling: FP1 as Fp1" in output
    ours, theirs = (
        nib.load(path).get_fdata() for path in (tmp_path / "p.nii.gz", job / "predicted.nii.gz")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_a_channel_that_the_model_does_not_know_is_named(job, tmp_path):
    eeg = respelled_eeg(job, tmp_path, lambda name: "Vertex" if name == "Cz" else name)
    output = verb(*predict_command(job, tmp_path, eeg=eeg, interpolate=0), expect=3)
    assert "1 of the 63 channels that the model was trained on are missing: Cz;" in output
    assert "Vertex" in output


def test_a_bids_folder_is_predicted_into_a_derivative_data_set(job, tmp_path):
    eeg = tmp_path / "bids" / "sub-43" / "eeg"
    eeg.mkdir(parents=True)
    header = eeg_of_test_subject(job)
    for path in header.parent.glob(f"{header.stem}.*"):
        shutil.copy(path, eeg / f"sub-43_task-rest_eeg{path.suffix}")
    (eeg / "sub-43_task-eyes_eeg.edf").write_text("damaged")
    folders = f"eeg={tmp_path / 'bids'}", f"output={tmp_path / 'derivatives'}"
    command = "predict", "configs/predict/demo.yaml", f"run={job / 'transformer'}", *folders
    output = verb(*command, expect=3)
    assert "1 of 2 recordings could not be predicted: sub-43_task-eyes" in output
    func = tmp_path / "derivatives" / "sub-43" / "func"
    stem = "sub-43_task-rest_space-MNI152NLin6Asym_desc-predicted_bold"
    ours = nib.load(func / f"{stem}.nii.gz").get_fdata()
    np.testing.assert_array_equal(ours, nib.load(job / "predicted.nii.gz").get_fdata())
    page = (tmp_path / "derivatives" / "sub-43_task-rest_desc-predicted.html").read_text()
    assert "trained on simulated data" in page
    assert "Does the model use the EEG?" in page  # it was evaluated
    index = (tmp_path / "derivatives" / "index.html").read_text()
    assert '<a href="sub-43_task-rest_desc-predicted.html">sub-43 task-rest</a>' in index
    assert 'sub-43 task-eyes</th><td class="text">not predicted' in index
    assert "up to date" in verb(*command, "task=rest")
    # It cannot be predicted again, with other settings: the older page does not hide that.
    again = verb(*command, "task=rest", "marker=nosuchmarker", expect=3)
    assert "sub-43_task-rest failed" in again or "could not be predicted" in again
    index = (tmp_path / "derivatives" / "index.html").read_text()
    assert "an earlier prediction</a> is still there" in index
    assert re.search(r"sub-43_task-rest +up to date", verb(*command, "--dry-run"))


def test_a_scan_of_the_person_is_registered_and_becomes_the_reference(job, tmp_path):
    (bold,) = (job / "recordings" / "fMRI" / "43").glob("*mepi_rest*.nii.gz")
    command = predict_command(job, tmp_path, calibration=bold)
    verb(*command)
    calibrated = nib.load(tmp_path / "p.nii.gz").get_fdata()
    store = Store(job / "store.h5")
    (entry,) = (entry for entry in store.recordings if entry.subject == "43")
    own = store.bold(entry.first_sample, entry.first_sample + entry.n_samples).mean(axis=0)
    mask = store.layout.mask
    plain = nib.load(job / "predicted.nii.gz").get_fdata()
    errors = [np.abs(v.mean(axis=-1) - own)[mask].mean() for v in (calibrated, plain)]
    assert errors[0] < 0.2 * errors[1]
    assert (calibrated[~mask] == 0).all()


def test_a_few_volumes_of_the_person_are_worth_15_db(job):
    metrics = json.loads((job / "evaluation" / "metrics.json").read_text())
    without, with_scan = metrics["runs"][0]["calibrated"]
    assert (without["volumes"], with_scan["volumes"]) == (0, 6)
    assert with_scan["true_eeg"]["mean"] > without["mean_image"]["mean"] + 15


def test_a_scan_with_its_eeg_moves_the_model_towards_the_person(job, tmp_path):
    (bold,) = (job / "recordings" / "fMRI" / "43").glob("*mepi_rest*.nii.gz")
    metrics = json.loads((job / "transformer" / "metrics.json").read_text())
    (run,) = metrics["runs"]
    assert [score["volumes"] for score in run["adapted"]] == [6]
    run["adapted"][0]["penalty"] = 1.0  # whatever validation subjects chose
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    given = {"calibration": bold, "scores": tmp_path}
    errors = []
    for more in ({}, {"calibration_eeg": eeg_of_test_subject(job)}):
        verb(*predict_command(job, tmp_path, **given, **more))
        predicted = nib.load(tmp_path / "p.nii.gz").get_fdata()
        store = Store(job / "store.h5")
        (entry,) = (entry for entry in store.recordings if entry.subject == "43")
        true = store.bold(entry.first_sample, entry.first_sample + entry.n_samples)
        left = np.moveaxis(true, 0, -1) - predicted
        errors.append(left[store.layout.mask].std())
    assert errors[1] < 0.9 * errors[0]  # it is the scan itself that is predicted
    sidecar = json.loads((tmp_path / "p.json").read_text())
    assert sidecar["AdaptedToPerson"].startswith("ridge regression on ")


def test_what_is_no_scan_is_refused(job, tmp_path):
    command = predict_command(job, tmp_path, calibration=job / "store.h5")
    assert "store.h5" in verb(*command, expect=3)


def predict_command(job, tmp_path, **changes):
    values = {"run": job / "transformer", "eeg": eeg_of_test_subject(job)} | changes
    overrides = [f"{key}={value}" for key, value in values.items()]
    return "predict", "configs/predict/demo.yaml", *overrides, f"output={tmp_path / 'p.nii.gz'}"


def test_predicting_with_a_cae_is_refused(job, tmp_path):
    output = verb(*predict_command(job, tmp_path, run=job / "cae"), expect=3)
    assert "does not predict" in output


def test_predicting_from_no_eeg_is_refused(job, tmp_path):
    output = verb(*predict_command(job, tmp_path, eeg="nowhere.vhdr"), expect=3)
    assert "no such EEG recording" in output


def test_a_damaged_model_is_refused(job, tmp_path):
    shutil.copytree(job / "transformer", tmp_path / "run")
    name = (tmp_path / "run" / "checkpoints" / "best").read_text()
    weights = tmp_path / "run" / "checkpoints" / name / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-10] ^= 1
    weights.write_bytes(content)
    output = verb(*predict_command(job, tmp_path, run=tmp_path / "run"), expect=3)
    assert "model.safetensors differs" in output


def test_an_output_that_cannot_be_written_ends_an_evaluation_before_the_work(job, tmp_path):
    (tmp_path / "file").write_text("")
    runs = f"runs=[{job / 'cae'}]"
    output = verb(
        "evaluate", "configs/evaluate/default.yaml", runs, f"output={tmp_path / 'file'}", expect=4
    )
    assert "a file stands where a folder is needed" in output
    assert "r of regions" not in output


def test_a_run_of_another_store_is_not_evaluated(job, tmp_path):
    make_store(tmp_path / "other.h5", n_subjects=3, n_volumes=20)
    shutil.copytree(job / "transformer", tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(job / "store.h5"), str(tmp_path / "other.h5")))
    output = verb(
        "evaluate",
        "configs/evaluate/default.yaml",
        f"runs=[{tmp_path / 'run'}]",
        f"output={tmp_path}",
        expect=3,
    )
    assert "another store" in output


def test_a_tokenizer_of_another_normalization_is_refused(job, tmp_path):
    output = verb(
        "train",
        "configs/train/paper/transformer.yaml",
        f"store={job / 'store.h5'}",
        f"tokenizer={job / 'cae'}",
        f"output={tmp_path / 'run'}",
        "data.window=8",
        expect=3,
    )
    assert "tokenizer does not fit: its data.normalize is voxelwise" in output


def test_preprocessing_without_recordings_is_refused(tmp_path):
    output = verb(
        "preprocess",
        "configs/preprocess/demo.yaml",
        f"source.path={tmp_path}",
        f"output={tmp_path / 's.h5'}",
        expect=3,
    )
    assert "no noddi recordings found" in output
