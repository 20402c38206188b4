"""Predicted runs on disk: what is in the files, what is done again, what a bad one stops."""

import json
import re
import shutil
import subprocess
import weakref
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from eeg2fmri_dist.calibration.ridge_update import person_features
from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.data.normalization import normalize_eeg
from eeg2fmri_dist.errors import CheckpointError, ConfigError, DataError
from eeg2fmri_dist.evaluation.metrics_file import find_scores, read_report, to_json
from eeg2fmri_dist.evaluation.report.page import write_report
from eeg2fmri_dist.evaluation.results import AdaptedScore, CalibratedScore
from eeg2fmri_dist.evaluation.significance import Interval
from eeg2fmri_dist.files.nifti import write_run_in_blocks
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.predict import predict_bold, predict_bold_in_blocks
from eeg2fmri_dist.inference.weights import locate_weights, weights_sha256
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.prediction import inputs
from eeg2fmri_dist.prediction import job as prediction_job
from eeg2fmri_dist.prediction.index_page import write_index
from eeg2fmri_dist.prediction.inputs import PreparedEeg
from eeg2fmri_dist.prediction.job import run_tasks
from eeg2fmri_dist.prediction.outputs import RunFiles, write_dataset, write_predicted_run
from eeg2fmri_dist.prediction.page import page_of, render_page
from eeg2fmri_dist.prediction.predictor import load_predictor
from eeg2fmri_dist.prediction.tasks import make_tasks
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.store_facts import store_regions
from preprocessing.eeg.new_recording import EegFile
from tests.helpers.browsers import measure, quoted
from tests.helpers.models import UNET, save_untrained
from tests.helpers.reports import SUBJECTS, make_report, row, run
from tests.helpers.stores import TR_S, make_store

N_VOLUMES = 40
VALIDATOR = shutil.which("bids-validator-deno")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(make_store(tmp_path_factory.mktemp("store") / "s.h5", n_volumes=N_VOLUMES))


@pytest.fixture(scope="module")
def weights(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_untrained(path, store, UNET)
    return path


@pytest.fixture
def recordings(tmp_path):
    """Two recordings that can be used, one that is damaged, one that is not there."""
    folder = tmp_path / "eeg"
    folder.mkdir()
    for name in ("a", "b", "damaged"):
        (folder / f"{name}.edf").write_text(name)
    return [
        EegFile(folder / f"{name}.edf", {"sub": name, "task": "rest"})
        for name in ("a", "damaged", "absent", "b")
    ]


@pytest.fixture
def job(store, weights, recordings, tmp_path, monkeypatch):
    """Predict recordings, as often as it is called; pages are drawn where they are asked for."""

    def prepare_eeg(config, trained, path):
        go.prepared.append(path.stem)
        if path.stem == "damaged":
            raise DataError("the file ends early", where=path)
        number = "ab".index(path.stem)
        power = store.eeg(number * N_VOLUMES, (number + 1) * N_VOLUMES)
        picture = Figure("EEG", "", "A picture.", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
                         "image/svg+xml")  # fmt: skip
        return PreparedEeg(power, 3.0, {"Channels": "<b>six</b>"}, [picture])

    def read_scan(trained, path):
        go.prepared.append(path.stem)
        return np.load(path)

    monkeypatch.setattr(inputs, "prepare_eeg", prepare_eeg)
    monkeypatch.setattr(inputs, "read_scan", read_scan)
    monkeypatch.setattr(inputs, "load_atlases", lambda *given: store.layout.atlases)

    def go(only=None, draw=False, **changes):
        render = render_page if draw else lambda page: "not drawn"
        monkeypatch.setattr(prediction_job, "page_of", page_of if draw else lambda *given: None)
        monkeypatch.setattr(prediction_job, "render_page", render)
        config = PredictConfig.model_validate(
            {"run": weights, "eeg": ["x.edf"], "output": tmp_path / "out", **changes}
        )
        go.prepared = []
        chosen = [file for file in recordings if only is None or file.entities["sub"] in only]
        predictor = load_predictor(config)
        tasks = make_tasks(config, chosen, predictor)
        run_tasks(tasks, predictor)
        return {task.key: task.files for task in tasks}

    return go


def test_files_hold_the_prediction(job, store, weights):
    files = job(only=["a"])["sub-a_task-rest"]
    expected = predict_bold(load_model(weights), store.eeg(0, N_VOLUMES))
    image = nib.load(files.bold)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.moveaxis(image.get_fdata(), -1, 0), expected)
    np.testing.assert_allclose(image.affine, store.layout.affine)
    assert image.header.get_zooms()[3] == TR_S
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["sform_code"] == image.header["qform_code"] == 4
    series = np.genfromtxt(files.series, names=True, delimiter="\t", deletechars="")
    labels = store_regions(store).labels
    first = expected[:, labels == 1].mean(axis=1)
    np.testing.assert_allclose(series["Region_1"], first, rtol=1e-5)
    sidecar = json.loads(files.sidecar.read_text())
    assert sidecar["RepetitionTime"] == TR_S
    assert sidecar["StartTime"] == 3.0
    assert "not a medical device" in sidecar["Description"]


def test_a_scan_of_the_person_takes_the_place_of_the_training_mean(job, store, weights, tmp_path):
    volumes = (3 * store.bold(0, 5)).astype(np.float32)  # another gain
    np.save(tmp_path / "scan.npy", volumes)
    scan = volumes.mean(axis=0)
    files = job(only=["a"], calibration=tmp_path / "scan.npy")["sub-a_task-rest"]
    volumes = np.moveaxis(nib.load(files.bold).get_fdata(), -1, 0)
    trained = load_model(weights)
    change = predict_bold(trained, store.eeg(0, N_VOLUMES)) / np.where(
        trained.mask, trained.scaling.reference, 1
    )
    expected = np.where(trained.mask, scan * change, 0)
    np.testing.assert_allclose(volumes, expected, rtol=1e-5, atol=1e-3)
    assert "calibration scan" in json.loads(files.sidecar.read_text())["ReferenceImage"]
    # Known again; another scan is another prediction.
    job(only=["a"], calibration=tmp_path / "scan.npy")
    assert job.prepared == []
    np.save(tmp_path / "scan.npy", volumes[:4])
    job(only=["a"], calibration=tmp_path / "scan.npy")
    assert job.prepared == ["a", "scan"]


@pytest.mark.parametrize("chosen", [True, False])
def test_voxels_are_scaled_to_the_person_where_that_was_better(job, store, weights, tmp_path,
                                                               chosen):  # fmt: skip
    trained, inside = load_model(weights), load_model(weights).mask.astype(bool)
    rng = np.random.default_rng(0)
    change = 3 * trained.scaling.fraction * rng.standard_normal((40, *inside.shape))
    np.save(tmp_path / "scan.npy", trained.scaling.reference * (1 + change))
    unknown = Interval(1.0, 0.5, 1.5, 4, "Student's t")
    psnr = [CalibratedScore(n, *[unknown] * 4, scaled=chosen and n > 0) for n in (0, 10, 30, 60)]
    scores = scored(weights, tmp_path / "evaluation", calibrated=psnr)
    spread = []
    for calibration in (None, tmp_path / "scan.npy"):
        files = job(only=["a"], scores=scores, calibration=calibration)["sub-a_task-rest"]
        volumes = np.moveaxis(nib.load(files.bold).get_fdata(), -1, 0)[:, inside]
        spread.append((volumes / volumes.mean(axis=0)).std())
    assert spread[1] / spread[0] == pytest.approx(3 if chosen else 1, rel=0.1)
    assert json.loads(files.sidecar.read_text())["ScaledToPerson"] is chosen


def scored(weights, folder, adapted=(), calibrated=(), **changes):
    """Write an evaluation of these weights; returns metrics.json."""
    report = make_report(**changes)
    rows = (row(name, r, 0.001) for name, r in (("eeg_only", 0.4), ("shifted", 0.02), ("zero", 0)))
    baselines = [row("training_mean", 0.0, 1.0, 0.0), row("ridge", 0.3)]
    sha256 = weights_sha256(weights)
    models = [run(*rows, weights_sha256=sha256, adapted=adapted, calibrated=calibrated)]
    write_report(replace(report, runs=models, baselines=baselines), folder)
    return folder / "metrics.json"


def with_penalty(penalty):
    """Scores of an evaluation in which people were adapted to."""
    interval = Interval(0.1, 0.0, 0.2, 4, "Student's t")
    return [AdaptedScore(10, penalty, interval, interval, interval, interval)]


@pytest.fixture
def own_scan(store, weights, tmp_path):
    """A scan of 20 volumes in which the subject's BOLD follows the EEG in a way of their own."""
    trained = load_model(weights)
    eeg = normalize_eeg(store.eeg(0, N_VOLUMES), trained.data, trained.scaling)
    features = person_features(trained, eeg)
    own = 0.02 * features[:, :1] / features[:, 0].std()
    reference = trained.scaling.reference
    truth = reference * (1 + own[:, :, None, None] * trained.mask)
    np.save(tmp_path / "scan.npy", truth)
    return truth


def test_a_scan_with_its_eeg_moves_the_model_towards_the_person(job, own_scan, weights, tmp_path):
    scores = scored(weights, tmp_path / "evaluation", with_penalty(0.01))
    given = {"calibration": tmp_path / "scan.npy", "scores": scores}
    inside = load_model(weights).mask.astype(bool)

    def distance(**changes):
        files = job(only=["a"], **given, **changes)["sub-a_task-rest"]
        predicted = np.moveaxis(nib.load(files.bold).get_fdata(), -1, 0)[:, inside]
        return np.abs(predicted / own_scan[:, inside] - 1).mean(), files

    before, _ = distance()
    after, files = distance(calibration_eeg=tmp_path / "eeg" / "a.edf")
    assert after < 0.2 * before
    told = json.loads(files.sidecar.read_text())
    assert told["AdaptedToPerson"] == (
        f"ridge regression on {N_VOLUMES} volumes with EEG, penalty 0.01"
    )
    assert [name for name, *_ in told["MadeFrom"]["Scan"]] == [
        str(tmp_path / "scan.npy"), str(tmp_path / "eeg" / "a.edf"),
    ]  # fmt: skip


def test_nobody_is_adapted_to_where_that_helped_nobody(job, own_scan, weights, tmp_path, caplog):
    scores = scored(weights, tmp_path / "evaluation", with_penalty(None))
    given = {"calibration": tmp_path / "scan.npy", "scores": scores, "only": ["a"]}
    caplog.set_level("INFO")
    volumes = []
    for more in ({}, {"calibration_eeg": tmp_path / "eeg" / "a.edf"}):
        files = job(**given, **more)["sub-a_task-rest"]
        volumes.append(nib.load(files.bold).get_fdata())
    np.testing.assert_array_equal(*volumes)
    assert "AdaptedToPerson" not in json.loads(files.sidecar.read_text())
    assert "no step was clearly better" in caplog.text


def test_eeg_of_another_scan_is_refused(job, own_scan, weights, tmp_path):
    np.save(tmp_path / "scan.npy", own_scan[:30])
    scores = scored(weights, tmp_path / "evaluation", with_penalty(10.0))
    with pytest.raises(DataError, match="1 of 1 recordings"):
        job(only=["a"], calibration=tmp_path / "scan.npy", scores=scores,
            calibration_eeg=tmp_path / "eeg" / "a.edf")  # fmt: skip


def test_how_far_to_adapt_must_have_been_tried(job, own_scan, tmp_path):
    eeg = tmp_path / "eeg" / "a.edf"
    with pytest.raises(ConfigError, match=r"its evaluation did not try.*"):
        job(only=["a"], calibration=tmp_path / "scan.npy", calibration_eeg=eeg)
    with pytest.raises(ValueError, match="give calibration too"):
        job(only=["a"], calibration_eeg=eeg)


def test_a_scan_is_of_one_person(job, tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros(1))
    with pytest.raises(ConfigError, match=r"a scan of one subject cannot calibrate 2 \(a, b\)"):
        job(only=["a", "b"], calibration=tmp_path / "scan.npy")


def test_names_and_folders_are_those_of_bids_derivatives(job, tmp_path):
    files = job(only=["a"])["sub-a_task-rest"]
    stem = "sub-a_task-rest_space-MNI152NLin6Asym_desc-predicted_bold"
    assert files.bold == tmp_path / "out" / "sub-a" / "func" / f"{stem}.nii.gz"
    assert files.sidecar == files.bold.with_name(f"{stem}.json")
    entities = {"sub": "1", "ses": "x", "task": "t", "run": "02"}
    in_session = RunFiles.in_dataset(tmp_path, entities, "MNI", "Parcels").series
    assert str(in_session.relative_to(tmp_path)) == (
        "sub-1/ses-x/func/sub-1_ses-x_task-t_run-02_space-MNI_seg-Parcels_stat-mean"
        "_desc-predicted_timeseries.tsv"
    )


@pytest.mark.skipif(VALIDATOR is None, reason="no validator: pip install bids-validator-deno")
def test_the_validator_of_bids_finds_no_error(job, tmp_path):
    write_dataset(tmp_path / "out")
    job(only=["a", "b"])
    command = [VALIDATOR, tmp_path / "out", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0


def test_a_data_set_says_that_it_is_predicted_and_mixes_with_no_other(tmp_path):
    write_dataset(tmp_path / "out")
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "eeg2fmri_dist"
    assert "not a medical device" in (tmp_path / "out" / "README").read_text()
    write_dataset(tmp_path / "out")
    (tmp_path / "dataset_description.json").write_text('{"Name": "my raw data"}')
    with pytest.raises(ConfigError, match=r"another data set .'my raw data'"):
        write_dataset(tmp_path)


def test_one_bad_recording_does_not_stop_the_others(job, caplog):
    with pytest.raises(DataError, match=r"2 of 4 recordings .*: sub-damaged.*, sub-absent"):
        job()
    assert job.prepared == ["a", "damaged", "b"]
    assert "the file ends early" in caplog.text
    assert "BrainVision (.vhdr), EDF (.edf), BDF (.bdf), EEGLAB (.set)" in caplog.text
    with pytest.raises(DataError):
        job()
    assert job.prepared == ["damaged"]


def test_what_is_up_to_date_is_not_predicted_again(job, recordings, tmp_path):
    files = job(only=["a", "b"])
    job(only=["a", "b"])
    assert job.prepared == []
    recordings[0].path.write_text("longer")
    job(only=["a", "b"])
    assert job.prepared == ["a"]
    files["sub-b_task-rest"].page.unlink()
    job(only=["a", "b"])
    assert job.prepared == ["b"]
    job(only=["a", "b"], marker="S 1")
    assert job.prepared == ["a", "b"]


def test_a_prediction_that_was_cut_is_made_again(job, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prediction_job, "write_text", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job(only=["a"])
    job(only=["a"])
    assert job.prepared == ["a"]


def test_several_recordings_do_not_go_into_one_file(job, tmp_path):
    with pytest.raises(ConfigError, match="2 recordings cannot go into one file"):
        job(only=["a", "b"], output=tmp_path / "x.nii.gz")
    files = job(only=["a"], output=tmp_path / "x.nii.gz")["sub-a_task-rest"]
    assert files.page == tmp_path / "x.html"
    assert nib.load(tmp_path / "x.nii.gz").shape[3] == N_VOLUMES


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii"])
def test_blocks_give_the_file_of_the_whole(tmp_path, name):
    volumes = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    cuts = (volumes[:3], volumes[3:4], volumes[4:])
    write_run_in_blocks(tmp_path / name, cuts, volumes.shape, affine, 2.16)
    image = nib.load(tmp_path / name)
    np.testing.assert_array_equal(np.moveaxis(image.get_fdata(), -1, 0), volumes)
    assert image.header.get_zooms()[3] == pytest.approx(2.16)
    first = (tmp_path / name).read_bytes()
    write_run_in_blocks(tmp_path / name, [volumes], volumes.shape, affine, 2.16)
    assert (tmp_path / name).read_bytes() == first


def test_blocks_of_a_prediction_are_those_of_the_whole(store, weights):
    trained = load_model(weights)
    power = np.concatenate([store.eeg(0, store.n_samples)] * 2)
    blocks = [*predict_bold_in_blocks(trained, power)]
    assert len(blocks) > 3
    np.testing.assert_array_equal(np.concatenate(blocks), predict_bold(trained, power))


def test_the_page_tells_how_the_model_scored_beside_its_controls(job, weights, tmp_path):
    scores = scored(weights, tmp_path / "evaluation")
    page = job(only=["a"], draw=True, scores=scores)["sub-a_task-rest"].page.read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "not a medical device" in text
    assert f"{len(SUBJECTS)} test subjects whom the model had not seen" in text
    for label in ("True EEG", "Shifted EEG", "Zero EEG", "Ridge regression", "Training-mean"):
        assert label in text
    assert "&lt;b&gt;six" in page
    # Scores that come later are shown, too.
    scored(weights, tmp_path / "evaluation", leaks=True)
    page = job(only=["a"], draw=True, scores=scores)["sub-a_task-rest"].page.read_text()
    assert job.prepared == ["a"]
    assert "the split leaks" in page


def test_a_model_that_was_never_scored_is_said_to_be_so(job, weights, tmp_path):
    page = job(only=["a"], draw=True)["sub-a_task-rest"].page.read_text()
    assert "No evaluation of these weights was found" in page
    other = scored(weights, tmp_path / "evaluation")
    content = json.loads(other.read_text())
    content["runs"][0]["weights_sha256"] = "0" * 64
    other.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="no scores of these weights"):
        job(only=["a"], scores=other)


def test_an_evaluation_that_was_written_is_read_again(weights, tmp_path):
    path = scored(weights, tmp_path)
    report = read_report(path)
    assert to_json(report)["runs"] == json.loads(path.read_text())["runs"]
    assert report.full_title == json.loads(path.read_text())["title"]
    assert find_scores(path, weights_sha256(weights)).verdict.answer == "Yes"
    path.write_text('{"format": "else", "version": 1}')
    with pytest.raises(DataError, match="not an evaluation of this version"):
        read_report(path)


def test_scores_are_found_in_a_file_or_its_folder(job, weights, tmp_path):
    path = scored(weights, tmp_path / "evaluation")
    sha256 = weights_sha256(weights)
    assert find_scores(path, sha256).run == find_scores(path.parent, sha256).run
    assert find_scores(tmp_path / "nowhere", sha256) is None
    with pytest.raises(ConfigError, match=r"there is no metrics\.json"):
        job(only=["a"], scores=tmp_path / "nowhere")


def test_an_evaluation_of_the_previous_version_is_read(weights, tmp_path):
    """It knew a model by 16 digits in a table for readers, and its title as shown alone."""
    path = scored(weights, tmp_path, leaks=True)
    content = json.loads(path.read_text())
    title = content.pop("report_title")
    del content["made_from"]
    for part in content["runs"]:
        part["facts"]["Weights"] = part.pop("weights_sha256")[:16]
    path.write_text(json.dumps(content))
    report = read_report(path)
    assert report.title == title
    assert report.full_title == content["title"]
    assert find_scores(path, weights_sha256(weights)) is not None
    assert find_scores(path, "0" * 64) is None
    assert "Weights" not in report.runs[0].facts


def test_weights_that_could_run_code_are_never_opened(tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "it-ran"), "w")

    content = pickle.dumps(Hostile())
    for name in ("model.pt", "pytorch_model.bin", "last.ckpt", "x.pkl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="never opened"):
            locate_weights(tmp_path / name, "best")
    # A pickle by another name, and one inside a torch archive.
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a model of this suite"):
        load_model(locate_weights(tmp_path, "best"))
    torch.save({"state": Hostile()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a model of this suite"):
        load_model(locate_weights(tmp_path, "best"))
    assert not (tmp_path / "it-ran").exists()
    pickle.loads(content).close()  # it would have run
    assert (tmp_path / "it-ran").exists()


PAGE = """<!DOCTYPE html><body><script>
const measured = {};
for (const width of [400, 1200]) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = REPORT;
  frame.onload = () => {
    const page = frame.contentDocument;
    const slider = page.querySelector("input[type=range]");
    const said = () => page.querySelector("output").textContent;
    const first = said();
    slider.value = 9;
    slider.dispatchEvent(new Event("input"));
    measured[width] = {
      moved: said() !== first,
      wider: page.documentElement.scrollWidth > width,
      pictures: [...page.images].map(image => [image.naturalWidth > 0, image.alt.length > 0]),
      offline: ![...page.querySelectorAll("[src], link")].some(e => /^http/.test(e.src || e.href)),
    };
  };
  document.body.append(frame);
}
onload = () => { document.title = JSON.stringify(measured); };
</script></body>"""


def test_the_page_in_a_browser(job, weights, tmp_path):
    scores = scored(weights, tmp_path / "evaluation")
    page = job(only=["a"], draw=True, scores=scores)["sub-a_task-rest"].page.read_text()
    found, console = measure(tmp_path, PAGE.replace("REPORT", quoted(page)))
    assert console == []
    assert found.keys() == {"400", "1200"}
    for measured in found.values():
        assert measured["moved"]
        assert measured["offline"]
        assert not measured["wider"]
        assert len(measured["pictures"]) > 8
        assert all(has_alt for _, has_alt in measured["pictures"])


INDEX = """<!DOCTYPE html><body><script>
const measured = {};
for (const width of [400, 1200]) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = REPORT;
  frame.onload = () => {
    const page = frame.contentDocument;
    measured[width] = {
      wider: page.documentElement.scrollWidth > width,
      links: [...page.querySelectorAll("a")].map(link => link.getAttribute("href")),
      rows: [...page.querySelectorAll("tbody tr")].map(row => row.innerText),
    };
  };
  document.body.append(frame);
}
onload = () => { document.title = JSON.stringify(measured); };
</script></body>"""


def test_the_index_in_a_browser(tmp_path):
    pages = [f"sub-{'long' * 8}_task-{name}_desc-predicted.html" for name in ("rest", "eyes")]
    for page in pages:
        (tmp_path / page).write_text("a page")
    write_index(tmp_path, {"sub-<b>bad</b>_task-rest": "the file is damaged: " + "0" * 60})
    index = (tmp_path / "index.html").read_text()
    found, console = measure(tmp_path, INDEX.replace("REPORT", quoted(index)))
    assert console == []
    assert found.keys() == {"400", "1200"}
    for measured in found.values():
        assert not measured["wider"]
        assert measured["links"] == sorted(pages)
        assert len(measured["rows"]) == 3
        assert "sub-<b>bad</b> task-rest" in measured["rows"][2]
        assert "not predicted: the file is damaged" in measured["rows"][2]


def test_volumes_are_written_as_they_come_and_not_kept(store, weights, tmp_path):
    references, most = [], 0

    def blocks():
        nonlocal most
        for _ in range(10):
            block = np.ones((6, *store.layout.grid), np.float32)
            references.append(weakref.ref(block))
            yield block
            del block
            most = max(most, sum(reference() is not None for reference in references))

    card = load_model(weights).card
    files = RunFiles.beside(tmp_path / "x.nii.gz")
    overview = write_predicted_run(files, blocks(), 60, card, store_regions(store), {})
    assert most <= 2
    assert overview.series.shape == (60, 4)
    assert nib.load(files.bold).shape[3] == 60


def test_predictions_that_are_not_finite_are_refused(store, weights, tmp_path):
    blocks = [np.ones((6, *store.layout.grid), np.float32)] * 2
    blocks[1] = blocks[1] * np.nan
    card, files = load_model(weights).card, RunFiles.beside(tmp_path / "x.nii.gz")
    with pytest.raises(CheckpointError, match="not finite from volume 6 on"):
        write_predicted_run(files, blocks, 12, card, store_regions(store), {})
    assert not files.bold.exists()
