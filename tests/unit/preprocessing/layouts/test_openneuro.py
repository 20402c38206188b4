"""The data sets ds002336, ds002338 and ds002158 by their file names, and others of their kinds.

The files are tiny and simulated; names, tables and sidecars are as published.
"""

import json
import shutil

import mne
import nibabel as nib
import numpy as np
import pytest
import yaml

from eeg2fmri_dist.config.preprocess import EegConfig, PreprocessConfig, SourceConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.store import Store, verify
from preprocessing.eeg.features import eeg_features
from preprocessing.layouts import noddi
from preprocessing.layouts.selection import select_recordings
from preprocessing.recordings import Recording
from tests.helpers import eeg_formats
from tests.helpers.preprocessing_jobs import preprocess, simulate_recordings

EEG_PP = "derivatives/sub-*/eeg_pp/*_eeg_pp.vhdr"
DS002336 = (
    "sub-xp101/anat/sub-xp101_T1w.nii.gz",
    "sub-xp101/eeg/sub-xp101_task-MIpre_eeg.vhdr",
    "sub-xp101/eeg/sub-xp101_task-motorloc_eeg.vhdr",
    "sub-xp101/func/sub-xp101_task-MIpre_bold.nii.gz",
    "sub-xp101/func/sub-xp101_task-motorloc_bold.nii.gz",
    "derivatives/sub-xp101/eeg_pp/sub-xp101_task-MIpre_eeg_pp.vhdr",
    "derivatives/sub-xp101/eeg_pp/sub-xp101_task-MIpre_eeg_pp.dat",
    "derivatives/sub-xp101/head_motion/d_sub-xp101_task-MIpre_headmotion.tsv",
    "sub-xp102/eeg/sub-xp102_task-MIpre_eeg.vhdr",
    "sub-xp102/func/sub-xp102_task-MIpre_bold.nii.gz",
)
DS002338 = (
    "sub-xp204/anat/sub-xp204_T1w.nii.gz",
    "sub-xp204/eeg/sub-xp204_task-2dNF_run-01_eeg.vhdr",
    "sub-xp204/eeg/sub-xp204_task-2dNF_run-02_eeg.vhdr",
    "sub-xp204/func/sub-xp204_task-2dNF_run-01_bold.nii.gz",
    "sub-xp204/func/sub-xp204_task-2dNF_run-02_bold.nii.gz",
    "sub-xp220/eeg/sub-xp220_task-1dNF_run-04_eeg.vhdr",
    "sub-xp220/func/sub-xp220_task-1dNF_run-04_bold.nii.gz",
    "derivatives/sub-xp204/eeg_pp/d_sub-xp204_task-2dNF_run-01_eeg_pp.vhdr",
    "derivatives/sub-xp204/eeg_pp/d_sub-xp204_task-2dNF_run-02_eeg_pp.vhdr",
    "derivatives/sub-xp220/eeg_pp/d_sub-xp220_NF4_eeg_pp.vhdr",
    "eeg/sub-xp210_task-2dNF_run-01_eeg.vhdr",
)
DS002158 = tuple(
    f"sub-02/ses-001/{folder}/sub-02_ses-001_{name}"
    for run in ("001", "002")
    for folder, name in (
        ("anat", "T1w.nii.gz"),
        ("eeg", f"task-main_run-{run}_eeg.vhdr"),
        ("func", f"task-main_run-{run}_bold.nii.gz"),
    )
)


@pytest.fixture
def dataset(tmp_path):
    """Make empty files of these names; returns a function that selects recordings."""

    def make(names, **sidecars):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for name, tr_s in sidecars.items():
            (tmp_path / f"{name}.json").write_text(json.dumps({"RepetitionTime": tr_s}))

        def select(**settings):
            return select_recordings(SourceConfig(name="bids", path=tmp_path, **settings))

        return select

    return make


def described(recordings, root):
    return {
        r.key: (str(r.eeg_path.relative_to(root)), str(r.bold_path.relative_to(root)), r.tr_s)
        for r in recordings
    }


def test_ds002336_raw_and_corrected_eeg(dataset, tmp_path):
    select = dataset(DS002336, **{"task-MIpre_bold": 2, "task-motorloc_bold": 2})
    raw = select().whole()
    assert [recording.key for recording in raw] == [
        "sub-xp101_task-MIpre",
        "sub-xp101_task-motorloc",
        "sub-xp102_task-MIpre",
    ]
    assert raw[0].t1_path == tmp_path / DS002336[0]
    corrected = select(eeg_files=EEG_PP, tasks="MIpre")
    assert described(corrected.selected, tmp_path) == {
        "sub-xp101_task-MIpre": (DS002336[5], DS002336[3], 2.0)
    }
    ((refused,),) = [corrected.refused]
    assert refused.recording.key == "sub-xp102_task-MIpre"
    assert refused.reason == f"no EEG: {EEG_PP} is missing"


def test_ds002338_runs_and_derivatives_with_a_prefix(dataset, tmp_path):
    select = dataset(DS002338, **{"task-2dNF_bold": 1, "task-1dNF_bold": 1})
    assert described(select(runs=[2]).whole(), tmp_path) == {
        "sub-xp204_task-2dNF_run-02": (DS002338[2], DS002338[4], 1.0)
    }
    assert len(select().whole()) == 3
    corrected = select(eeg_files=EEG_PP, tasks="2dNF")
    assert described(corrected.whole(), tmp_path) == {
        "sub-xp204_task-2dNF_run-01": (DS002338[7], DS002338[3], 1.0),
        "sub-xp204_task-2dNF_run-02": (DS002338[8], DS002338[4], 1.0),
    }
    with pytest.raises(DataError, match=r"sub-xp220_task-1dNF_run-04: no EEG"):
        select(eeg_files=EEG_PP, subjects="xp220", tasks="1dNF").whole()


def test_ds002158_sessions_and_runs_of_three_digits(dataset, tmp_path):
    select = dataset(DS002158, **{"task-main_bold": 1.28})
    assert described(select(subjects=[2], sessions=[1], runs=[2]).whole(), tmp_path) == {
        "sub-02_ses-001_task-main_run-002": (DS002158[4], DS002158[5], 1.28)
    }
    assert len(select().whole()) == 2
    assert select().selected[0].t1_path == tmp_path / DS002158[0]


def test_volumes_before_the_eeg_begins_must_be_dropped(tmp_path):
    values = {"source": {"name": "bids", "path": tmp_path}, "output": tmp_path / "store.h5"}
    values["eeg"] = {"first_volume": 6}
    with pytest.raises(ValueError, match=r"first_volume 6 is more than dummy_scans 5"):
        PreprocessConfig.model_validate(values)
    PreprocessConfig.model_validate(values | {"dummy_scans": 6})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Raw header, exported header and BOLD run of a simulated subject: ten volumes of 2 s."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_recordings(folder, ["32"])
    data = folder / "data"
    versions = [noddi.eeg_header(data, "32", version) for version in ("raw", "export")]
    return *versions, noddi.bold_run(data, "32")


def run(root, **settings):
    """Preprocess a BIDS folder by the command; returns the store and what it printed."""
    source = {"name": "bids", "path": str(root), **settings.pop("source", {})}
    values = {
        "source": source,
        "output": str(root / "out" / "store.h5"),
        "bold": {"transform": "affine", "grid": [32, 32, 15]},
        "quality": False,
        "cluster": {"workers": 2, "memory_gib": 1.0},
        **settings,
    }
    (root / "preprocess.yaml").write_text(yaml.safe_dump(values))
    done = preprocess(root / "preprocess.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(root / "out" / "store.h5")
    assert verify(store.path) == []
    return store, done.stdout + done.stderr


def place(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)
    return path


def signal_of(header):
    raw = mne.io.read_raw_brainvision(header, verbose="error")
    return raw.get_data() * 1e6, raw.ch_names, int(raw.info["sfreq"])


@pytest.mark.slow
def test_corrected_eeg_of_derivatives_that_covers_a_part_of_the_run(simulated, tmp_path, write_eeg):
    """As ds002336 has it: cut at the first block, one TR after the scan began."""
    _, export, bold = simulated
    signal_uv, names, sfreq_hz = signal_of(export)
    volume = 2 * sfreq_hz
    stem = "sub-xp101_task-MIpre"
    cut = signal_uv[:, volume : 9 * volume]
    header = write_eeg(cut, sfreq_hz, names, stem=f"{stem}_eeg_pp", fmt="binary_float32")
    folder = tmp_path / "derivatives/sub-xp101/eeg_pp"
    text = header.read_text(encoding="utf-8").replace("_eeg_pp.eeg", "_eeg_pp.dat")
    place(folder / f"{stem}_eeg_pp.vhdr", header).write_text(text, encoding="utf-8")
    place(folder / f"{stem}_eeg_pp.dat", header.with_suffix(".eeg"))
    place(folder / f"{stem}_eeg_pp.vmrk", header.with_suffix(".vmrk"))
    place(tmp_path / f"sub-xp101/func/{stem}_bold.nii.gz", bold)
    (tmp_path / "task-MIpre_bold.json").write_text('{"RepetitionTime": 2}')
    store, _ = run(
        tmp_path,
        source={"eeg_files": EEG_PP},
        eeg={"marker": None, "first_volume": 1},
        dummy_scans=2,
    )
    (entry,) = store.recordings
    assert (entry.key, entry.task, entry.n_samples) == ("sub-xp101_task-MIpre", "MIpre", 7)
    whole = Recording("1", export, bold)
    known = eeg_features(whole, 10, 2.0, EegConfig(marker=None), 2).power
    middle = slice(2, 5)
    correlation = np.corrcoef(
        np.log(store.eeg(0, 7)[middle].ravel()), np.log(known[:7][middle].ravel())
    )
    assert correlation[0, 1] > 0.99
    # The volumes are those that the EEG covers: a store of the whole run holds the same ones.
    image = nib.load(bold).get_fdata()[..., 2:9]
    means = store.bold(0, 7)[:, store.layout.mask].mean(axis=1)
    np.testing.assert_allclose(
        np.corrcoef(means, image.reshape(-1, 7).mean(axis=0))[0, 1], 1, atol=0.2
    )


@pytest.mark.slow
def test_renamed_raw_eeg_of_sessions_with_a_sidecar_that_contradicts_the_header(
    simulated, tmp_path
):
    """As ds002158 has it: the header names the file it had on the recorder."""
    raw, _, bold = simulated
    stem = "sub-02_ses-001_task-main_run-001"
    folder = tmp_path / "sub-02/ses-001"
    header = place(folder / f"eeg/{stem}_eeg.vhdr", raw)
    lines = header.read_text(encoding="utf-8").splitlines()
    stale = {"DataFile": "s2_run1_08062017.eeg", "MarkerFile": "s2_run1_08062017.vmrk"}
    lines = [
        f"{line.split('=')[0]}={stale[line.split('=')[0]]}" if line.split("=")[0] in stale else line
        for line in lines
    ]
    header.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for suffix in (".eeg", ".vmrk"):
        place(folder / f"eeg/{stem}_eeg{suffix}", raw.with_suffix(suffix))
    run_path = folder / f"func/{stem}_bold.nii.gz"
    run_path.parent.mkdir()
    image = nib.load(bold)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.0))
    nib.save(image, run_path)
    (tmp_path / "task-main_bold.json").write_text('{"RepetitionTime": 2.0}')
    store, printed = run(tmp_path, source={"sessions": [1]})
    (entry,) = store.recordings
    assert entry.key == stem
    assert entry.tr_s == 2.0
    assert entry.n_samples == 5
    assert "the NIfTI header says 1 s" in printed
    assert "TR 2 s is used" in entry.quality["tr_mismatch"]


@pytest.mark.slow
def test_set_and_edf_whose_volume_markers_lie_in_events_tsv(simulated, tmp_path):
    _, export, bold = simulated
    signal_uv, names, sfreq_hz = signal_of(export)
    # EDF has records of whole seconds.
    signal_uv = signal_uv[:, : signal_uv.shape[1] // sfreq_hz * sfreq_hz]
    for subject, write in (("1", eeg_formats.write_set), ("2", eeg_formats.write_edf)):
        stem = f"sub-{subject}_task-rest"
        folder = tmp_path / f"sub-{subject}"
        (folder / "eeg").mkdir(parents=True)
        suffix = {"1": ".set", "2": ".edf"}[subject]
        write(folder / f"eeg/{stem}_eeg{suffix}", signal_uv, names, sfreq_hz)
        place(folder / f"func/{stem}_bold.nii.gz", bold)
    rows = "".join(f"{2 * volume}\t0\tvolume\n" for volume in range(10))
    (tmp_path / "task-rest_events.tsv").write_text("onset\tduration\ttrial_type\n" + rows)
    store, _ = run(tmp_path, eeg={"marker": "^volume$"})
    assert [entry.key for entry in store.recordings] == ["sub-1_task-rest", "sub-2_task-rest"]
    assert [entry.n_samples for entry in store.recordings] == [5, 5]
    assert len(store.layout.channel_names) == 63
    np.testing.assert_allclose(store.eeg(0, 5), store.eeg(5, 10), rtol=0.1, atol=0.05)
    np.testing.assert_array_equal(store.bold(0, 5), store.bold(5, 10))
