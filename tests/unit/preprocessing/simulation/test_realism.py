"""Harder simulations: each key does what it says, is absent at 0, and is null without coupling."""

import hashlib

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import center_of_mass
from scipy.signal import detrend

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.simulate import EegSignalConfig, RealismConfig, SimulateConfig
from preprocessing.simulation import load_truth, simulate_subject
from preprocessing.simulation.brain.activity import Timeline
from preprocessing.simulation.brain.coupling import linear_share, nonlinear_drive, own_population
from preprocessing.simulation.scanner.bold_measurement import (
    noise_ceiling,
    population_weights,
    regional_bold,
)
from preprocessing.simulation.scanner.eeg_measurement import simulate_eeg
from preprocessing.simulation.scanner.head_motion import framewise_mm, head_motion, moved
from preprocessing.simulation.seeding import generator
from preprocessing.simulation.truth import REALISM_KEYS
from tests.helpers.repository import ROOT

TR_S, N_VOLUMES = 2.16, 60
TIMELINE = Timeline(8.0 + TR_S * np.arange(N_VOLUMES), TR_S, 8.0 + TR_S * N_VOLUMES + 3.0)
ALL = {
    "own_weights": 0.5,
    "hrf_delay_s": 0.8,
    "nonlinear": 0.5,
    "cross_frequency": 0.5,
    "vigilance": 0.5,
    "electrode_shift_mm": 15.0,
    "bad_channels": 0.1,
    "residual_uv": 5.0,
    "motion_mm": 0.5,
    "shared_noise_percent": 1.0,
}
GOLDEN = [46.6925, 15.3966, 344.083, 1155.93, 0.697213, 0.703685, 0.0697335]  # of `_summary`
IN_BOLD_WITHOUT_COUPLING = {"motion_mm", "shared_noise_percent"}


def _eeg(subject="32", **realism):
    return simulate_eeg(0, subject, TIMELINE, EegSignalConfig(), RealismConfig(**realism))


@pytest.fixture(scope="module")
def plain():
    return _eeg()


def _simulate(folder, coupling=0.0, n_volumes=12, **realism):
    config = SimulateConfig(
        output=folder,
        subjects=["32"],
        n_volumes=n_volumes,
        sfreq_hz=250,
        coupling=coupling,
        realism=realism,
    )
    return simulate_subject(config, "32")


# --- absent at 0 -----------------------------------------------------------------------------


def test_without_realism_recordings_are_what_they_were_before_there_was_any(tmp_path):
    """Numbers of the simulator of version 4 before it had `realism`."""
    files = _simulate(tmp_path / "a", coupling=1.0)
    truth = load_truth(files.truth_path)
    steps = np.fromfile(files.export_path.with_suffix(".dat"), dtype="<i2").astype(float)
    run = np.asarray(nib.load(files.bold_path).dataobj).astype(float)
    assert not REALISM_KEYS.keys() & truth.keys()
    np.testing.assert_allclose(GOLDEN, _summary(steps, run, truth), rtol=1e-4)


def _summary(steps, run, truth):
    return [
        steps.std(),
        np.abs(steps[::1001]).mean(),
        run.mean(),
        run[30:34, 30:34, 15, 6:].mean(),
        np.abs(truth["weights"]).mean(),
        truth["hrf_power"][3, 5, 2],
        truth["leadfield_uv_per_nam"].std(),
    ]


@pytest.mark.parametrize("key", ALL)
def test_each_key_changes_only_what_it_is_about(plain, key):
    harder = _eeg(**{key: ALL[key]})
    in_eeg = key not in {"own_weights", "hrf_delay_s", "nonlinear", "cross_frequency"}
    assert np.array_equal(harder.signal_uv, plain.signal_uv) is not in_eeg
    moves_sources = key in {"vigilance"}
    same = np.array_equal(harder.activity.band_power, plain.activity.band_power)
    assert same is not moves_sources
    delayed = np.array_equal(harder.activity.hrf_power, plain.activity.hrf_power)
    assert delayed is not (moves_sources or key == "hrf_delay_s")


# --- null without coupling -------------------------------------------------------------------


@pytest.fixture(scope="module")
def null_run(tmp_path_factory):
    return _digest(_simulate(tmp_path_factory.mktemp("null")).bold_path)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_coupling_bold_knows_nothing_of_the_eeg(tmp_path, null_run):
    neural = {key: value for key, value in ALL.items() if key not in IN_BOLD_WITHOUT_COUPLING}
    files = _simulate(tmp_path / "neural", **neural)
    truth = load_truth(files.truth_path)
    assert _digest(files.bold_path) == null_run
    assert not truth["bold_driven"].any()
    assert not truth["bold_nonlinear"].any()
    assert not truth["noise_ceiling"].any()


@pytest.mark.slow
def test_with_everything_the_truth_says_what_happened(tmp_path, null_run):
    files = _simulate(tmp_path / "all", **ALL)
    truth = load_truth(files.truth_path)
    assert _digest(files.bold_path) != null_run
    assert not truth["bold_driven"].any()
    assert not truth["noise_ceiling"].any()
    assert truth["bold_shared_noise"].std() == pytest.approx(1.0, rel=1e-3)
    assert truth["head_motion"].any()
    assert 0 < truth["bad_channels"].sum() < 20


# --- what drives BOLD ------------------------------------------------------------------------


def _regional(plain, coupling=0.8, **realism):
    realism = RealismConfig(**realism)
    population = population_weights(generator(0, "coupling"))
    return regional_bold(
        generator(0, "32", "bold"),
        own_population(0, "32", population, realism.own_weights),
        plain.activity.hrf_power,
        np.zeros((N_VOLUMES, len(population))),
        coupling=coupling,
        between_subjects=0.2,
        neural_percent=1.5,
        beside=nonlinear_drive(0, population, plain.activity.hrf_power, realism),
        linear_share=linear_share(realism),
    )


@pytest.mark.parametrize(
    "keys", [{}, {"nonlinear": 0.5}, {"nonlinear": 0.6, "cross_frequency": 0.8}]
)
def test_driven_bold_is_as_large_however_it_is_driven(plain, keys):
    regional = _regional(plain, **keys)
    np.testing.assert_allclose(regional.driven.std(axis=0), 0.8 * 1.5, rtol=1e-4)
    linear = np.einsum("vrb,rb->vr", plain.activity.hrf_power, regional.weights)
    np.testing.assert_allclose(regional.driven, linear + regional.nonlinear, atol=1e-4)


def test_no_linear_model_explains_the_non_linear_share(plain):
    regional = _regional(plain, nonlinear=0.6, cross_frequency=0.5)
    explained = []
    for region in range(regional.driven.shape[1]):
        power, course = plain.activity.hrf_power[:, region], regional.driven[:, region]
        fit = power @ np.linalg.lstsq(power, course, rcond=None)[0]
        explained.append(np.corrcoef(fit, course)[0, 1])
    # 1 - 0.6^2 - 0.5^2 = 0.39 of the variance is linear, give or take how the two others correlate.
    assert np.mean(explained) == pytest.approx(np.sqrt(0.39), abs=0.05)


def test_own_weights_keep_their_size_and_leave_the_population():
    population = population_weights(generator(0, "coupling"))
    own = np.stack([own_population(0, str(s), population, 0.6) for s in range(200)])
    assert np.sqrt(np.mean(own**2)) == pytest.approx(np.sqrt(np.mean(population**2)), rel=0.03)
    np.testing.assert_allclose(own.mean(axis=0), 0.8 * population, atol=0.15)
    assert own_population(0, "1", population, 0.0) is population


# --- what disturbs ---------------------------------------------------------------------------


def test_bad_channels_are_those_of_the_truth(plain):
    from preprocessing.layouts.noddi import CHANNELS
    from preprocessing.simulation.scanner.disturbances import bad_channels

    changed = (_eeg(bad_channels=0.1).signal_uv != plain.signal_uv).any(axis=1)
    scalp = np.array([name != "ECG" for name in CHANNELS])
    np.testing.assert_array_equal(changed[scalp], bad_channels(0, "32", 63, 0.1))
    assert not changed[~scalp].any()


def test_residual_has_its_size_and_its_frequencies(plain):
    added = (_eeg(residual_uv=5.0).signal_uv - plain.signal_uv)[:, 2500:30000]
    assert 2.5 < np.sqrt(np.mean(added**2)) < 10
    spectrum = (np.abs(np.fft.rfft(added, axis=1)) ** 2).sum(axis=0)
    frequency_hz = np.fft.rfftfreq(added.shape[1], 1 / 250)
    harmonic = np.abs((frequency_hz + 7) % (30 / TR_S) - 7) < 0.3
    assert spectrum[harmonic].sum() > 0.95 * spectrum.sum()


def test_shifted_cap_records_the_sources_elsewhere(plain):
    shifted = _eeg(electrode_shift_mm=15.0).leadfield
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(plain.leadfield.T, shifted.T, strict=True)]
    assert 0.5 < np.mean(alike) < 0.995


def test_vigilance_moves_alpha_and_theta_apart(plain):
    course = np.log(_eeg(vigilance=1.0).activity.band_power / plain.activity.band_power)
    theta, alpha = course[:, 0, 1], course[:, 0, 2]
    assert np.corrcoef(theta, alpha)[0, 1] < -0.9
    assert 0.4 < alpha.std() < 4


def test_moved_head_lies_where_the_motion_says():
    image = np.zeros((24, 24, 24), dtype=np.float32)
    image[9:14, 10:15, 11:16] = 1
    affine = np.diag([-3.0, 3.0, 4.0, 1.0])
    shifted = moved(image, affine, np.array([1.5, -3.0, 2.0, 0, 0, 0]))
    difference = np.subtract(center_of_mass(shifted), center_of_mass(image))
    np.testing.assert_allclose(difference, [-0.5, -1.0, 0.5], atol=0.02)
    # About z by +90 degrees, x goes to y: a block right of the middle ends in front of it.
    right = np.zeros_like(image)
    right[5:8, 11:13, 11:13] = 1
    turned = center_of_mass(
        moved(right, np.diag([-3.0, 3.0, 3.0, 1.0]), np.array([0, 0, 0, 0, 0, 90.0]))
    )
    np.testing.assert_allclose(turned, [11.5, 17.0, 11.5], atol=0.1)


def test_motion_has_its_size_and_shows_in_the_eeg(plain):
    motion = head_motion(0, "32", N_VOLUMES, TR_S, 0.5)
    millimeters = np.hstack([motion[:, :3], np.deg2rad(motion[:, 3:]) * 50])
    assert np.sqrt(np.mean(millimeters**2)) == pytest.approx(0.5)
    added = np.abs(_eeg(motion_mm=0.5).signal_uv - plain.signal_uv).mean(axis=0)
    starts = np.rint(TIMELINE.onsets_s * 250).astype(int)
    per_volume = np.array([added[start : start + 540].mean() for start in starts])
    assert np.corrcoef(per_volume, framewise_mm(motion))[0, 1] > 0.3


def test_shared_noise_is_in_the_eeg_before_it_is_in_bold(plain):
    harder = _eeg(shared_noise_percent=1.0)
    added = (harder.signal_uv - plain.signal_uv) ** 2
    starts = np.rint(TIMELINE.onsets_s * 250).astype(int)
    power = np.array([added[:, start : start + 540].mean() for start in starts])
    course = harder.disturbances.shared_percent
    lagged = [np.corrcoef(power[: -lag or None], course[lag:])[0, 1] for lag in range(5)]
    assert max(lagged) > 0.7
    assert np.argmax(lagged) in (2, 3)


# --- noise ceiling ---------------------------------------------------------------------------


@pytest.mark.slow
def test_noise_ceiling_of_the_hard_condition_is_that_of_noise_drawn_anew(tmp_path):
    hard = load_config(SimulateConfig, ROOT / "configs" / "simulate" / "hard.yaml").realism
    files = _simulate(tmp_path / "hard", coupling=0.8, n_volumes=N_VOLUMES, **hard.model_dump())
    truth = load_truth(files.truth_path)
    driven, measured = truth["bold_driven"].astype(float), truth["bold_measured"]
    expected = [
        np.corrcoef(detrend(a[5:]), detrend(b[5:]))[0, 1]
        for a, b in zip(driven.T, measured.T, strict=True)
    ]
    np.testing.assert_allclose(truth["noise_ceiling"], expected, atol=1e-6)
    # By Monte Carlo: other noise of the same size gives the same ceiling on average.
    rng = np.random.default_rng(0)
    noise = (measured - driven)[5:].std(axis=0)
    drawn = [
        noise_ceiling(driven, driven + noise * rng.standard_normal(driven.shape)).mean()
        for _ in range(200)
    ]
    assert truth["noise_ceiling"].mean() == pytest.approx(np.mean(drawn), abs=0.1)
    assert 0.4 < truth["noise_ceiling"].mean() < 0.9


# --- config ----------------------------------------------------------------------------------


def test_shares_beyond_the_whole_are_refused():
    with pytest.raises(ValidationError, match="at most 1"):
        RealismConfig(nonlinear=0.9, cross_frequency=0.9)


@pytest.mark.parametrize("name", ["linear", "hard", "null", "null_shared_noise"])
def test_conditions_are_what_they_are_called(name):
    config = load_config(SimulateConfig, ROOT / "configs" / "simulate" / f"{name}.yaml")
    assert len(config.subjects) == (28 if name.startswith("null") else 44)
    assert (config.coupling == 0) is name.startswith("null")
    assert config.realism.is_off is (name == "linear")
    assert bool(config.realism.shared_noise_percent) is (name in ("hard", "null_shared_noise"))
