"""What is said of the processing where the truth of a recording is known, and only there."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import BANDS_HZ, EegConfig, SourceConfig
from eeg2fmri_dist.config.simulate import SimulateConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.bold.bold_run import open_bold
from preprocessing.eeg.features import eeg_features
from preprocessing.layouts import noddi
from preprocessing.quality.known_truth import registration_error_mm, with_residual
from preprocessing.recordings import KnownTruth
from preprocessing.simulation import simulate_subject
from preprocessing.template.head_map import load_head_map
from preprocessing.template.mni import load_brain_mask

TR_S, N_VOLUMES = 2.16, 30


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A simulated recording with scanner artifacts, as its layout finds it."""
    folder = tmp_path_factory.mktemp("known")
    config = SimulateConfig(
        output=folder,
        subjects=["32"],
        n_volumes=N_VOLUMES,
        artifacts={"gradient_mv": 4, "pulse_uv": 30},
    )
    simulate_subject(config, "32")
    (found,) = noddi.find_recordings(
        SourceConfig(name="noddi", path=folder, origin="simulated", eeg="raw")
    )
    return found


def features(recording, **config):
    return eeg_features(recording, N_VOLUMES, TR_S, EegConfig(**config), 5)


def residual(recording, **config):
    found = with_residual(features(recording, **config), recording, TR_S, EegConfig(), 5)
    return found.cleaning.residual_db


def test_the_residual_of_a_correction_is_measured_against_the_clean_eeg(recording):
    left = residual(recording)
    assert set(left) == set(BANDS_HZ)
    assert max(abs(median) for median, _ in left.values()) < 1.0
    assert residual(recording, gradient_artifact={"remove": False}) == {}


@pytest.mark.parametrize("truth", [None, KnownTruth()])
def test_without_known_truth_nothing_is_said(recording, truth):
    unknown = replace(recording, truth=truth)
    assert residual(unknown) == {}
    assert registration_error_mm(unknown, None, None) == {}


def test_the_error_of_a_registration_is_its_distance_from_the_true_map(recording):
    mask = load_brain_mask()
    brain_mm = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
    true_mm = load_head_map(recording.truth.head_map_path).to_scanner(brain_mm)
    run = open_bold(recording.bold_path)
    shifted = SimpleNamespace(native_mm=true_mm + np.array([0.0, 3.0, 4.0]))
    error = registration_error_mm(recording, run, shifted)
    assert error == pytest.approx({"true_error_mean_mm": 5.0, "true_error_p95_mm": 5.0})


@pytest.mark.parametrize("content", [b"no archive", None])
def test_a_map_that_cannot_be_read_is_named(recording, tmp_path, content):
    path = tmp_path / "map.npz"
    path.write_bytes(content) if content else np.savez(path, warp_mm=np.zeros(3))
    broken = replace(recording, truth=KnownTruth(head_map_path=path))
    with pytest.raises(DataError, match="no head map") as caught:
        registration_error_mm(broken, None, None)
    assert str(path) in str(caught.value)
