"""A real BOLD run cut into pieces, with simulated EEG."""

import json

import mne
import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import SourceConfig
from preprocessing.layouts.selection import select_recordings
from preprocessing.simulation.accompany import BOLD_FILES, T1_FILE, TASK, main

N_VOLUMES = 9


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Folder with the names of the real data; a small scaled int16 run with a wrong TR."""
    folder = tmp_path_factory.mktemp("real")
    for name in (*BOLD_FILES, T1_FILE):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not looked at")
    steps = np.random.default_rng(0).integers(0, 2000, (5, 4, 3, N_VOLUMES), dtype=np.int16)
    image = nib.Nifti1Image(steps, np.diag([-3, 3, 3.3, 1]))
    image.header.set_zooms((3, 3, 3.3, 1.79))
    image.header.set_slope_inter(75.5, 0)
    nib.save(image, folder / BOLD_FILES[0])
    return folder


@pytest.fixture(scope="module")
def folder(real, tmp_path_factory):
    output = tmp_path_factory.mktemp("bids") / "folder"
    assert main([str(real), str(output), "--subjects", "2", "--volumes", "4"]) == 0
    return output


@pytest.fixture(scope="module")
def recordings(folder):
    return select_recordings(SourceConfig(name="bids", path=folder, tasks=[TASK])).whole()


def test_pieces_are_the_run_bit_for_bit(real, recordings):
    run = nib.load(real / BOLD_FILES[0])
    assert [recording.key for recording in recordings] == [
        "sub-01_task-oneback",
        "sub-02_task-oneback",
    ]
    for first, recording in zip((0, 4), recordings, strict=True):
        piece = nib.load(recording.bold_path)
        expected = run.dataobj[..., first : first + 4]
        np.testing.assert_array_equal(piece.dataobj, expected)
        np.testing.assert_array_equal(piece.affine, run.affine)
        assert piece.header.get_zooms() == run.header.get_zooms()


def test_published_repetition_time_is_in_the_sidecar(recordings):
    assert [recording.tr_s for recording in recordings] == [2.0, 2.0]
    assert all(recording.t1_path.read_bytes() == b"not looked at" for recording in recordings)


def test_eeg_has_a_marker_per_volume_and_differs_between_pieces(recordings):
    signals = []
    for recording in recordings:
        raw = mne.io.read_raw_brainvision(recording.eeg_path, verbose="error")
        onsets_s = [a["onset"] for a in raw.annotations if a["description"] == "Response/R128"]
        np.testing.assert_allclose(np.diff(onsets_s), 2.0, atol=1e-9)
        assert len(onsets_s) == 4
        assert raw.info["sfreq"] == 5000
        assert len(raw.ch_names) == 64
        assert raw.times[-1] > onsets_s[-1] + 2.0
        signals.append(raw.get_data(stop=5000))
    assert not np.array_equal(*signals)


def test_folder_says_what_is_simulated(folder):
    readme = (folder / "README").read_text()
    assert "EEG is simulated" in readme
    assert '2 "subjects" are consecutive pieces of 4 volumes of that one run' in readme
    assert "simulated EEG" in json.loads((folder / "dataset_description.json").read_text())["Name"]
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_folder_that_is_there_is_left_alone(real, folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main([str(real), str(folder)]) == 3
    assert "already there" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("pieces", [("--subjects", "3", "--volumes", "4"), ("--subjects", "10")])
def test_more_volumes_than_the_run_has_are_refused(real, tmp_path, capsys, pieces):
    assert main([str(real), str(tmp_path / "folder"), *pieces]) == 2
    assert "a run of 9" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_missing_real_data_is_named(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "folder")]) == 3
    assert "sf_bold.nii.gz: is missing" in capsys.readouterr().err
