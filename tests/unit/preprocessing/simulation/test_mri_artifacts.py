"""Scanner artifacts of simulated EEG: what they look like, and that nothing else changes."""

import mne
import numpy as np
import pytest

from eeg2fmri_dist.config.simulate import ArtifactConfig, SimulateConfig
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation import simulate_subject
from preprocessing.simulation.scanner.eeg_measurement import write_raw_recording

TR_S, N_VOLUMES, FIRST_S = 2.16, 10, 6.0
ECG = CHANNELS.index("ECG")
STEP_UV = 0.5


def _signal_uv(header):
    return 1e6 * mne.io.read_raw_brainvision(header, verbose="error").get_data()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Signal in uV of one subject with artifacts of several strengths."""
    folder = tmp_path_factory.mktemp("artifacts")

    def record(name, **strength):
        header = folder / f"{name}.vhdr"
        onsets_s = FIRST_S + TR_S * np.arange(N_VOLUMES)
        write_raw_recording(header, onsets_s, TR_S, artifacts=ArtifactConfig(**strength))
        return _signal_uv(header)

    return {
        "clean": record("clean"),
        "gradient": record("gradient", gradient_mv=4),
        "still": record("still", gradient_mv=4, head_motion=0),
        "pulse": record("pulse", pulse_uv=60),
    }


def _volumes(signal):
    first, n = round(FIRST_S * 5000), round(TR_S * 5000)
    return signal[:, first : first + N_VOLUMES * n].reshape(len(signal), N_VOLUMES, n)


def test_gradient_artifact_is_millivolts_on_every_channel_during_the_scan(recorded):
    artifact = recorded["gradient"] - recorded["clean"]
    peaks = np.abs(_volumes(artifact)).max(axis=(1, 2))
    assert np.median(peaks) == pytest.approx(4000, rel=0.1)
    assert peaks.min() > 100
    assert peaks.max() > 1.5 * peaks.min()
    assert np.abs(artifact[:, : round(FIRST_S * 5000)]).max() == 0
    assert np.abs(artifact[:, round((FIRST_S + TR_S * N_VOLUMES) * 5000) :]).max() == 0


def test_gradient_artifact_repeats_with_the_volume_unless_the_head_moves(recorded):
    still = _volumes(recorded["still"] - recorded["clean"])
    assert np.ptp(still, axis=1).max() <= 2 * STEP_UV  # rounding
    moving = _volumes(recorded["gradient"] - recorded["clean"])
    size = moving.std(axis=(1, 2))
    neighbors = (moving[:, 5] - moving[:, 4]).std(axis=1) / size
    far = (moving[:, -1] - moving[:, 0]).std(axis=1) / size
    assert 0.005 < np.median(far) < 0.5
    assert np.median(neighbors) < 0.5 * np.median(far)


def test_gradient_artifact_has_the_rhythm_of_the_slices(recorded):
    artifact = _volumes(recorded["still"] - recorded["clean"])[:, 0]
    power = (np.abs(np.fft.rfft(artifact, axis=1)) ** 2).mean(axis=0)
    frequency_hz = np.fft.rfftfreq(artifact.shape[1], 1 / 5000)
    slices_hz = 30 / (0.95 * TR_S)
    near = np.abs(frequency_hz / slices_hz - np.rint(frequency_hz / slices_hz)) < 0.1
    inside = (frequency_hz > 0.5 * slices_hz) & (frequency_hz < 240)
    assert power[inside & near].sum() > 0.9 * power[inside].sum()


def test_pulse_artifact_follows_the_heart_and_spares_the_ecg(recorded):
    artifact = recorded["pulse"] - recorded["clean"]
    assert np.abs(artifact[ECG]).max() == 0
    ecg = mne.io.RawArray(
        1e-6 * recorded["clean"][[ECG], ::20], mne.create_info(["ECG"], 250, "ecg"), verbose="error"
    )
    beats = 20 * mne.preprocessing.find_ecg_events(ecg, verbose="error")[0][:, 0]
    beats = beats[(beats > 5000) & (beats < artifact.shape[1] - 5000)]
    assert len(beats) > 20
    scalp = np.delete(artifact, ECG, axis=0)
    epochs = np.stack([scalp[:, beat : beat + 4000 : 20] for beat in beats])
    average = epochs.mean(axis=0)
    assert np.median(np.abs(average).max(axis=1)) == pytest.approx(60, rel=0.35)
    field = average.std(axis=0)
    at_210_ms, before, after = field[52], field[:20].max(), field[170:].max()
    assert at_210_ms > 3 * max(before, after)
    # From beat to beat it is not the same.
    strongest = np.abs(average).max(axis=1).argmax()
    peaks = epochs[:, strongest, np.abs(average[strongest]).argmax()]
    assert 0.05 < peaks.std() / np.abs(peaks.mean()) < 0.5
    # The two sides of the head mirror each other.
    topography = dict(zip([n for n in CHANNELS if n != "ECG"], average[:, 52], strict=True))
    sides = [topography[left] * topography[right] for left, right in (("T7", "T8"), ("C5", "C6"))]
    assert max(sides) < 0


def test_all_but_the_raw_eeg_is_the_same_with_and_without_artifacts(tmp_path):
    def files(folder, **artifacts):
        config = SimulateConfig(
            output=tmp_path / folder, subjects=["32"], n_volumes=8, artifacts=artifacts
        )
        return simulate_subject(config, "32")

    clean, disturbed = files("clean"), files("disturbed", gradient_mv=3, pulse_uv=50)
    for before, after in zip(clean.files, disturbed.files, strict=True):
        same = before.read_bytes() == after.read_bytes()
        assert same == (before != clean.raw_path.with_suffix(".eeg")), before.name
    assert "artifacts" not in clean.whole_path.read_text()
