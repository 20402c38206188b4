"""Removal of gradient and pulse artifacts: against the artifact-free truth, and against MNE."""

from pathlib import Path

import mne
import numpy as np
import pytest
from mne.preprocessing import GradientRemover
from scipy.signal import detrend, welch

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.config.simulate import ArtifactConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.artifacts.cleaning import residual_db
from preprocessing.artifacts.gradient import neighbor_weights, subtract_average
from preprocessing.artifacts.pulse import find_heartbeats
from preprocessing.eeg.brainvision import open_brainvision
from preprocessing.eeg.checked_signal import WatchedSignal
from preprocessing.eeg.features import eeg_features
from preprocessing.eeg.scan_signal import read_scan
from preprocessing.recordings import Recording
from preprocessing.simulation.scanner.eeg_measurement import write_raw_recording

TR_S, N_VOLUMES = 2.16, 40
LEFT = {"remove": False}


def features(header, tr_s=TR_S, n_volumes=None, **config):
    recording = Recording("1", Path(header), Path("bold.nii.gz"))
    return eeg_features(recording, n_volumes, tr_s, EegConfig(**config), 5)


def residual(corrected, truth):
    return residual_db(corrected.power, truth.power, truth.frequencies_hz)


def write(folder, name, tr_s=TR_S, n_volumes=N_VOLUMES, sfreq_hz=5000, subject="01", **strength):
    header = folder / f"{name}.vhdr"
    onsets_s = 6 + tr_s * np.arange(n_volumes)
    artifacts = ArtifactConfig(**strength)
    write_raw_recording(
        header, onsets_s, tr_s, subject=subject, sfreq_hz=sfreq_hz, artifacts=artifacts
    )
    return header


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("in_scanner")


@pytest.fixture(scope="module")
def clean(folder):
    return write(folder, "clean")


@pytest.fixture(scope="module")
def truth(clean):
    return features(clean)


@pytest.fixture(scope="module")
def gradient(folder):
    return write(folder, "gradient", gradient_mv=4)


@pytest.fixture(scope="module")
def both(folder):
    """Artifacts as at 1.5 T."""
    return write(folder, "both", gradient_mv=4, pulse_uv=30)


# --- what is left -----------------------------------------------------------------------------


def test_gradient_artifact_leaves_band_power_within_half_a_db(gradient, truth):
    for band, (median, worst) in residual(features(gradient, pulse_artifact=LEFT), truth).items():
        assert abs(median) < 0.4, band
        assert abs(worst) < 0.6, band


def test_both_artifacts_leave_band_power_within_1_db_in_every_channel(both, truth):
    uncorrected = residual(features(both, gradient_artifact=LEFT), truth)
    assert uncorrected["beta"][0] > 10
    assert uncorrected["delta"][0] > 3
    corrected = features(both)
    assert_within_1_db(corrected, truth)
    assert corrected.quality["gradient_volumes"] == N_VOLUMES
    assert corrected.quality["heartbeats"] == pytest.approx(N_VOLUMES * TR_S / 0.85, rel=0.3)


@pytest.mark.parametrize("subject", ["02", "04"])
def test_a_strong_pulse_artifact_in_a_short_recording(tmp_path, subject):
    """As at 3 T; without whitening, weak channels of these subjects were 2.5 and 1.6 dB off."""
    truth = features(write(tmp_path, "alone", subject=subject, sfreq_hz=1000))
    strength = {"gradient_mv": 4, "pulse_uv": 60}
    disturbed = write(tmp_path, "disturbed", subject=subject, sfreq_hz=1000, **strength)
    assert_within_1_db(features(disturbed), truth)


def assert_within_1_db(corrected, truth):
    for band, (median, worst) in residual(corrected, truth).items():
        assert abs(median) < 0.6, band
        assert abs(worst) < 0.9, band


def test_more_patterns_than_heartbeats(tmp_path):
    strength = {"gradient_mv": 4, "pulse_uv": 30}
    short = write(tmp_path, "short", n_volumes=25, sfreq_hz=500, **strength)
    assert np.isfinite(features(short, pulse_artifact={"components": 5}).power).all()


def test_what_was_removed_is_told(both, truth):
    cleaning = features(both).cleaning
    assert cleaning.channel_names == truth.channel_names
    assert cleaning.before_db.shape == cleaning.after_db.shape == (63, 30)
    after = 10 * np.log10(features(both).power.mean(axis=0))
    np.testing.assert_allclose(cleaning.after_db, after, atol=1e-4)
    beta = cleaning.frequencies_hz >= 13
    assert np.median((cleaning.before_db - cleaning.after_db)[:, beta].max(axis=1)) > 10
    assert cleaning.gradient_share > 0.5


def test_volumes_that_begin_between_samples(folder):
    tr_s = 2.1613  # 10806.5 samples at 5000 Hz, 540.325 at 250 Hz
    truth = features(write(folder, "odd_clean", tr_s), tr_s)
    odd = write(folder, "odd", tr_s, gradient_mv=4)
    for band, (_, worst) in residual(features(odd, tr_s, pulse_artifact=LEFT), truth).items():
        assert abs(worst) < 0.7, band


def test_scanner_that_runs_before_the_first_and_after_the_last_marker(both, clean, tmp_path):
    dummies, kept = 3, N_VOLUMES - 6
    cut = [_with_markers(header, tmp_path, slice(dummies, -3)) for header in (both, clean)]
    corrected, truth = (features(header, n_volumes=kept) for header in cut)
    for band, (median, worst) in residual(corrected, truth).items():
        assert abs(median) < 0.7, band
        assert abs(worst) < (2 if band in ("delta", "theta") else 1), band
    last = residual_db(corrected.power[-1:], truth.power[-1:], truth.frequencies_hz)
    assert abs(last["beta"][0]) < 2.5  # uncorrected: more than 20


def _with_markers(header, tmp_path, chosen):
    """The recording with some of its volume markers."""
    for suffix in (".vhdr", ".eeg"):
        (tmp_path / header.with_suffix(suffix).name).symlink_to(header.with_suffix(suffix))
    lines = header.with_suffix(".vmrk").read_text().splitlines()
    volumes = [line for line in lines if "R128" in line]
    kept = [line for line in lines if "R128" not in line or line in volumes[chosen]]
    (tmp_path / header.with_suffix(".vmrk").name).write_text("\n".join(kept) + "\n")
    return tmp_path / header.name


def test_each_channel_for_itself_is_mne(folder):
    header = write(folder, "pulse", n_volumes=16, pulse_uv=60, sfreq_hz=250)
    asked = {"remove": True, "method": "channel", "components": 3}
    got = features(header, gradient_artifact=LEFT, pulse_artifact=asked)
    raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    onset = raw.annotations.onset[raw.annotations.description == "Response/R128"]
    raw.filter(1, 30, picks="all", verbose="error")
    raw.crop(onset[0], onset[-1] + TR_S, include_tmax=False)
    beats = find_heartbeats(raw.get_data(["ECG"])[0], 250, header)
    raw.drop_channels(["ECG"])
    expected = mne.preprocessing.apply_pca_obs(
        raw, picks="eeg", qrs_times=beats / 250 + 0.21, n_components=3, verbose="error"
    )
    signal = 1e6 * expected.get_data()
    middles = 540 * (10 + (np.arange(11) + 0.5) / 11)  # of the windows of the eleventh volume
    windows = np.ceil(middles - 125).astype(int)
    spectra = [
        welch(signal[:, at : at + 250], 250, nperseg=250, detrend=False)[1] for at in windows
    ]
    np.testing.assert_allclose(got.power[5], np.mean(spectra, axis=0)[:, 1:31], rtol=0.05)


# --- the average ------------------------------------------------------------------------------


def test_weights_are_the_plain_mean_and_follow_a_drift_to_the_ends():
    weights = neighbor_weights(30, 8).astype(float)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(np.diag(weights), 0)
    np.testing.assert_allclose(weights[10][[6, 7, 8, 9, 11, 12, 13, 14]], 1 / 8, atol=1e-7)
    drift = 3.0 + 0.2 * np.arange(30)
    np.testing.assert_allclose(weights @ drift, drift, atol=1e-5)


def test_average_is_that_of_mne():
    rng = np.random.default_rng(0)
    length, n_volumes = 540, 30
    onsets = 7 + length * np.arange(n_volumes)
    artifact = np.tile(rng.normal(0, 500, (3, length)), n_volumes)
    signal = rng.normal(0, 10, (3, 7 + length * n_volumes))
    signal[:, 7:] += artifact
    remover = GradientRemover(signal, onsets, window=(4, 4))
    left = signal.astype(np.float32)
    subtract_average(left, onsets.astype(float), 8)
    for volume in range(4, n_volumes - 4):
        inside = slice(onsets[volume], onsets[volume] + length)
        # MNE takes a straight line off each volume; the band-passed signal has none.
        ours = detrend((signal - left)[:, inside])
        np.testing.assert_allclose(ours, remover.get_tr_template(volume), atol=2e-3)
    ends = np.r_[: 7 + 3 * length, signal.shape[1] - 3 * length : signal.shape[1]]
    assert left[:, ends].std() < 20  # corrected too


def test_order_of_filter_and_average_does_not_matter(gradient):
    """MNE at 5 kHz, then filtered, against ours: filtered, then at 250 Hz."""
    names, n = ["Fz", "Oz", "T8"], 10800
    raw = mne.io.read_raw_brainvision(gradient, preload=True, verbose="error").pick(names)
    scanned = raw.annotations.description == "Response/R128"
    onsets = np.rint(raw.annotations.onset[scanned] * 5000).astype(int)
    mne.preprocessing.remove_fmri_gradient_artifact(
        raw, onsets, window=(10, 10), picks="all", copy=False, verbose="error"
    )
    raw.filter(1, 30, picks="all", verbose="error")
    expected = raw.get_data()[:, onsets[0] : onsets[-1] + n : 20] * 1e6

    eeg = open_brainvision(gradient)
    channels = np.array([eeg.channel_names.index(name) for name in names])
    read = WatchedSignal(eeg, channels).read
    ours = read_scan(read, eeg, onsets, TR_S, EegConfig(), periodic=True)
    subtract_average(ours, (onsets - onsets[0]) / 20, 20)
    inner = slice(12 * 540, (N_VOLUMES - 12) * 540)
    difference = (ours - expected)[:, inner].std(axis=1) / expected[:, inner].std(axis=1)
    assert difference.max() < 0.1  # MNE also takes a straight line off each volume


# --- whether to -------------------------------------------------------------------------------


def test_auto_leaves_clean_eeg_as_it_is(clean, truth):
    assert truth.quality["gradient_volumes"] == truth.quality["heartbeats"] == 0
    assert truth.quality["gradient_share"] < 0.3
    left = features(clean, gradient_artifact=LEFT, pulse_artifact=LEFT)
    np.testing.assert_array_equal(left.power, truth.power)


def test_correction_does_little_to_eeg_without_artifacts(clean, truth):
    corrected = features(clean, gradient_artifact={"remove": True}, pulse_artifact=LEFT)
    for _, worst in residual(corrected, truth).values():
        assert abs(worst) < 0.7


def test_auto_without_ecg_removes_the_gradient_artifact_alone(gradient, tmp_path):
    header = _without_ecg(gradient, tmp_path)
    got = features(header)
    assert got.quality["gradient_volumes"] == N_VOLUMES
    assert got.quality["heartbeats"] == 0


def _without_ecg(header, tmp_path):
    """The recording with its ECG channel under another name."""
    for suffix in (".vmrk", ".eeg"):
        (tmp_path / header.with_suffix(suffix).name).symlink_to(header.with_suffix(suffix))
    renamed = tmp_path / header.name
    renamed.write_text(header.read_text().replace("=ECG,", "=Iz,"))
    return renamed


# --- what cannot be done ----------------------------------------------------------------------


def test_no_ecg_channel(clean, tmp_path):
    with pytest.raises(DataError, match="there is no ECG channel") as error:
        features(_without_ecg(clean, tmp_path), pulse_artifact={"remove": True})
    assert "eeg.pulse_artifact.remove: false" in error.value.remedy


def test_too_few_volumes_for_the_average(folder):
    header = write(folder, "short", n_volumes=12, gradient_mv=4)
    with pytest.raises(DataError, match=r"12 volumes are too few .* 20 neighbors") as error:
        features(header)
    assert "eeg.gradient_artifact.volumes to at most 10" in error.value.remedy
    got = features(header, gradient_artifact={"volumes": 10}, pulse_artifact=LEFT)
    assert got.quality["gradient_volumes"] == 12


def test_no_markers_to_average_by(clean):
    with pytest.raises(ConfigError, match="without volume markers"):
        features(clean, marker=None, gradient_artifact={"remove": True})


def test_markers_too_irregular_to_average_by(gradient, tmp_path):
    for suffix in (".vhdr", ".eeg"):
        (tmp_path / gradient.with_suffix(suffix).name).symlink_to(gradient.with_suffix(suffix))
    markers = gradient.with_suffix(".vmrk").read_text()
    sample = 6 * 5000 + 17 * 10800 + 1
    assert f"R128,{sample}," in markers
    late = markers.replace(f"R128,{sample},", f"R128,{sample + 8},")  # 1.6 ms
    (tmp_path / gradient.with_suffix(".vmrk").name).write_text(late)
    with pytest.raises(DataError, match=r"too irregular .* volume 17 .* 1\.\d ms off"):
        features(tmp_path / gradient.name)


def test_ecg_without_a_heart():
    noise = np.random.default_rng(0).normal(size=250 * 20)
    with pytest.raises(DataError, match="does not show a heart"):
        find_heartbeats(noise, 250, Path("recording.vhdr"))


def test_missed_heartbeats_are_found_where_they_should_be():
    beats = np.rint(250 * (0.5 + 0.9 * np.arange(60))).astype(int)
    ecg = np.zeros(250 * 54)
    ecg[beats] = 1000
    ecg[beats[[0, 20, 21, 40, 59]]] = 150  # too low for the detector
    ecg = mne.filter.filter_data(ecg, 250, 1, 30, verbose="error")
    found = find_heartbeats(ecg, 250, Path("recording.vhdr"))
    assert len(found) == len(beats)
    assert np.abs(found - beats).max() <= 2


@pytest.mark.faults
def test_whole_recording_at_3_tesla(tmp_path):
    strength = {"gradient_mv": 5, "pulse_uv": 60}
    truth = features(write(tmp_path, "clean", n_volumes=300))
    corrected = features(write(tmp_path, "disturbed", n_volumes=300, **strength))
    assert_within_1_db(corrected, truth)
