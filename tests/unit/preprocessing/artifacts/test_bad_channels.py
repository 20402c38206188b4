"""Bad channels: which are found, what takes their place; the average reference."""

from pathlib import Path

import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.config.simulate import EegSignalConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.artifacts.spatial_filters import surface_laplacian
from preprocessing.eeg.features import eeg_features
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.recordings import Recording
from preprocessing.simulation.brain.activity import Timeline
from preprocessing.simulation.scanner.eeg_measurement import simulate_eeg

N_VOLUMES, TR_S, FIRST, SFREQ_HZ = 20, 2.16, 500, 250


@pytest.fixture(scope="module")
def scalp_uv():
    onsets_s = FIRST / SFREQ_HZ + TR_S * np.arange(N_VOLUMES)
    timeline = Timeline(onsets_s, TR_S, float(onsets_s[-1]) + TR_S + 2)
    return simulate_eeg(0, "32", timeline, EegSignalConfig()).signal_uv


@pytest.fixture
def features(write_eeg, scalp_uv):
    """Features of a recording in which some channels were changed."""

    def compute(stem="good", change=None, **config):
        data = scalp_uv.copy()
        if change:
            change(data)
        onsets = FIRST + np.rint(TR_S * SFREQ_HZ * np.arange(N_VOLUMES)).astype(int)
        header = write_eeg(data, SFREQ_HZ, CHANNELS, onsets, stem=stem)
        recording = Recording("1", Path(header), Path("bold.nii.gz"))
        return eeg_features(recording, N_VOLUMES, TR_S, EegConfig(**config), 5)

    return compute


def damage(data):
    rng = np.random.default_rng(0)
    data[CHANNELS.index("C3")] = 12.0
    data[CHANNELS.index("P4")] += 500 * rng.standard_normal(data.shape[1])
    data[CHANNELS.index("O9")] = 10 * rng.standard_normal(data.shape[1])
    loose = data[CHANNELS.index("F7")]
    loose[2000:4000] = 3276.7  # the file's resolution is 0.1 uV


def test_bad_channels_are_found_named_and_replaced(features):
    good = features()
    got = features("damaged", damage, bad_channels="interpolate")
    bad = got.cleaning.bad_channels
    assert set(bad) == {"C3", "P4", "O9", "F7"}
    assert bad["C3"] == "constant"
    assert bad["F7"] == "saturated"
    assert bad["P4"].startswith("noisy")
    assert "unlike any other channel" in bad["O9"]
    assert got.quality["bad_channels"] == 4
    assert got.channel_names == good.channel_names
    ratio = 10 * np.log10(got.power.mean(axis=0) / good.power.mean(axis=0))
    kept = [name not in bad for name in good.channel_names]
    assert np.abs(ratio[kept]).max() < 0.3  # at 250 Hz either way
    alpha = ratio[[good.channel_names.index(name) for name in ("C3", "P4")], 8:12]
    assert np.abs(alpha.mean(axis=1)).max() < 4


def test_good_recordings_have_no_bad_channels(features):
    assert features(bad_channels="interpolate").cleaning.bad_channels == {}


def test_channels_with_nan_are_replaced(features, write_eeg, scalp_uv):
    onsets = FIRST + np.rint(TR_S * SFREQ_HZ * np.arange(N_VOLUMES)).astype(int)
    header = write_eeg(scalp_uv, SFREQ_HZ, CHANNELS, onsets, stem="nan", fmt="binary_float32")
    samples = np.fromfile(header.with_suffix(".eeg"), "<f4").reshape(-1, len(CHANNELS))
    samples[3000, CHANNELS.index("Cz")] = np.nan
    samples.tofile(header.with_suffix(".eeg"))
    config = EegConfig(bad_channels="interpolate")
    got = eeg_features(Recording("1", header, Path("x")), N_VOLUMES, TR_S, config, 5)
    assert got.cleaning.bad_channels == {"Cz": "not finite"}
    assert np.isfinite(got.power).all()


def test_too_few_good_channels(features):
    with pytest.raises(DataError, match=r"4 of 63 channels are bad .*C3 constant"):
        features("damaged", damage, bad_channels="interpolate", min_channels=60)


def test_average_reference(features, scalp_uv):
    reference = np.delete(scalp_uv, CHANNELS.index("ECG"), axis=0).mean(axis=0)
    got = features(reference="average")

    def by_hand(data):
        data -= reference

    expected = features("by_hand", by_hand)
    np.testing.assert_allclose(got.power, expected.power, rtol=0.02, atol=0.05)


def test_surface_laplacian(features):
    scalp = [number for number, name in enumerate(CHANNELS) if name != "ECG"]
    laplacian = surface_laplacian([CHANNELS[number] for number in scalp], Path("recording"))

    def by_hand(data):
        data[scalp] = laplacian @ data[scalp]

    expected = features("by_hand", by_hand)
    got = features(spatial_filter="csd")
    np.testing.assert_allclose(got.power, expected.power, rtol=0.05, atol=0.05)


def test_names_give_away_the_type(features):
    got = features(drop_channels=[])
    assert "ECG" not in got.channel_names
    assert len(got.channel_names) == 63
