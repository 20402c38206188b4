"""From a recording on disk to power per volume, against MNE and SciPy; refused recordings."""

from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import welch

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.eeg import features as eeg_module
from preprocessing.eeg.continuous import ContinuousEeg
from preprocessing.eeg.features import eeg_features
from preprocessing.recordings import Recording

NAMES = ["Fp1", "Fp2", "C3", "ECG", "C4", "O1", "O10", "P3", "P4", "HEOG"]
SCALP = ("Fp1", "Fp2", "C3", "C4", "O1", "O10", "P3", "P4")
TR_S = 2.16
WINDOWS = 12  # every 180 ms: whole samples at 1000 and 500 Hz


def signal_uv(n_samples, sfreq_hz, seed=0):
    rng = np.random.default_rng(seed)
    shape = (len(NAMES), n_samples)
    walk = np.cumsum(rng.normal(size=shape), axis=1) * 60 / np.sqrt(sfreq_hz)
    return walk + rng.normal(scale=5, size=shape)


def features(header, n_volumes, tr_s=TR_S, dummy_scans=0, **config):
    recording = Recording("1", Path(header), Path("bold.nii.gz"))
    return eeg_features(recording, n_volumes, tr_s, EegConfig(**config), dummy_scans)


@pytest.fixture
def record(write_eeg):
    """A recording with volume markers; `change` may edit the signal before it is written."""

    def make(n_volumes=8, sfreq_hz=1000, change=None, first=613, **options):
        step = TR_S * sfreq_hz
        onsets = first + np.rint(step * np.arange(n_volumes)).astype(int)
        data = signal_uv(int(onsets[-1] + step + 200), sfreq_hz)
        if change:
            change(data)
        return write_eeg(data, sfreq_hz, NAMES, onsets, **options)

    return make


def mne_and_scipy(header):
    """The same features of all volumes but the first and the last by MNE's filter and SciPy."""
    raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    onsets = np.rint(raw.annotations.onset * raw.info["sfreq"]).astype(int)
    raw.pick(list(SCALP)).filter(1, 30, verbose="error")
    factor = max(1, int(raw.info["sfreq"] // 1000))
    volumes = []
    rate = int(raw.info["sfreq"] / factor)
    hop = round(TR_S / WINDOWS * rate)
    for onset in onsets[1:-1]:
        first = onset - round((0.5 - TR_S / WINDOWS / 2) * raw.info["sfreq"])
        span = slice(first, first + ((WINDOWS - 1) * hop + rate) * factor, factor)
        _, density = welch(
            raw.get_data()[:, span] * 1e6,
            rate,
            nperseg=rate,
            noverlap=rate - hop,
            detrend=False,
        )
        volumes.append(density[:, 1:31])
    return np.array(volumes)


@pytest.mark.parametrize("sfreq_hz", [5000, 1000, 500])
def test_equal_to_mne_and_scipy(record, sfreq_hz):
    header = record(sfreq_hz=sfreq_hz)
    got = features(header, 8, windows_per_tr=WINDOWS)
    expected = mne_and_scipy(header)
    np.testing.assert_allclose(got.power[1:-1], expected, rtol=1e-3)
    assert got.sfreq_hz == min(sfreq_hz, 1000)


def test_what_is_returned(record):
    got = features(record(), 8, dummy_scans=3)
    assert got.power.shape == (5, 8, 30)
    assert got.power.dtype == np.float32
    assert got.channel_names == SCALP
    np.testing.assert_array_equal(got.frequencies_hz, np.arange(1, 31))
    assert got.unit == "uV^2 per 1 Hz bin"
    assert got.quality["n_volumes"] == 8
    assert got.quality["scan_start_s"] == pytest.approx(0.613)
    assert got.quality["end_missing_s"] == 0
    assert 10 < got.quality["peak_to_peak_uv_median"] <= got.quality["peak_to_peak_uv_max"]
    assert all(np.isfinite(value) for value in got.quality.values())


def test_dropping_volumes_leaves_the_others_as_they_are(record):
    header = record()
    np.testing.assert_allclose(
        features(header, 8, dummy_scans=5).power, features(header, 8).power[5:], rtol=1e-4
    )


def test_bands_are_means_of_bins(record):
    header = record()
    bins, bands = features(header, 8), features(header, 8, features="bands")
    assert bands.power.shape == (8, 8, 4)
    assert bands.power.dtype == np.float32
    np.testing.assert_allclose(bands.power[..., 2], bins.power[..., 7:12].mean(-1), rtol=1e-5)
    np.testing.assert_array_equal(bands.frequencies_hz, [2.5, 6, 10.5, 21.5])


def test_an_alpha_burst_shows_in_its_volume_channel_and_bin(record):
    def burst(data):  # 200 uV at 10 Hz on O1 during volume 4
        span = slice(613 + 4 * 2160, 613 + 5 * 2160)
        data[5, span] += 200 * np.sin(2 * np.pi * 10 * np.arange(2160) / 1000)

    difference = features(record(change=burst), 8).power - features(record(stem="calm"), 8).power
    assert np.unravel_index(difference.argmax(), difference.shape) == (4, 4, 9)
    in_volumes = difference[:, 4].sum(axis=1)
    assert in_volumes.sum() == pytest.approx(20_000, rel=0.05)
    assert in_volumes[4] > 0.8 * 20_000
    assert np.abs(difference[[0, 1, 2, 6, 7]]).max() < 20


@pytest.mark.parametrize("start_s", [0.0, 0.4, 0.93, 1.6, 1.9])
def test_a_burst_counts_the_same_wherever_in_a_volume_it_comes(record, start_s):
    def burst(data):  # 200 uV at 10 Hz on O1 for 300 ms
        first = 613 + 4 * 2160 + round(start_s * 1000)
        data[5, first : first + 300] += 200 * np.sin(2 * np.pi * 10 * np.arange(300) / 1000)

    difference = features(record(change=burst), 8).power - features(record(stem="calm"), 8).power
    assert difference[:, 4].sum() == pytest.approx(20_000 * 0.3 / TR_S, rel=0.1)


@pytest.mark.parametrize("block_s", [0.1, 5.0, 1000.0])
def test_size_of_blocks_does_not_matter(record, monkeypatch, block_s):
    header = record()
    expected = features(header, 8).power
    monkeypatch.setattr(eeg_module, "BLOCK_S", block_s)
    np.testing.assert_allclose(features(header, 8).power, expected, rtol=1e-3)


def test_no_more_than_a_block_is_read_at_a_time(record, monkeypatch):
    spans = []
    original = ContinuousEeg.read

    def read(self, start, stop, channels):
        spans.append(stop - start)
        return original(self, start, stop, channels)

    monkeypatch.setattr(ContinuousEeg, "read", read)
    features(record(n_volumes=60, sfreq_hz=250), 60)
    assert len(spans) > 5
    assert max(spans) < 25 * 250


@pytest.mark.parametrize(("sfreq_hz", "rate_hz"), [(2048, 1024), (512, 512), (250, 250)])
def test_any_rate(record, sfreq_hz, rate_hz):
    got = features(record(sfreq_hz=sfreq_hz), 8)
    assert got.sfreq_hz == rate_hz
    assert got.power.shape == (8, 8, 30)


def test_without_bold_volumes_are_counted_by_markers(record):
    header = record()
    np.testing.assert_array_equal(features(header, None).power, features(header, 8).power)


def test_eeg_cut_to_the_scan(write_eeg):
    header = write_eeg(signal_uv(8 * 540 + 22, 250), 250, NAMES)
    got = features(header, 8, marker=None)
    assert got.power.shape[0] == 8
    assert got.quality["scan_start_s"] == 0
    np.testing.assert_array_equal(features(header, None, marker=None).power, got.power)


def test_end_of_the_last_volume_may_be_missing(write_eeg):
    data = signal_uv(8 * 540, 250)
    whole = features(write_eeg(data, 250, NAMES), 8, marker=None)
    cut = features(write_eeg(data[:, :-200], 250, NAMES, stem="cut"), 8, marker=None)
    assert cut.quality["end_missing_s"] == pytest.approx(0.8)
    assert np.isfinite(cut.power).all()
    # The filter reaches 1.65 s back from the end that is missing.
    np.testing.assert_allclose(cut.power[:6], whole.power[:6], rtol=1e-3)


def test_constant_channels_are_named(record):
    def flatten(data):
        data[[2, 7]] = 12.3

    header = record(change=flatten)
    with pytest.raises(DataError, match=r"constant signal in C3, P3") as error:
        features(header, 8)
    assert "eeg.drop_channels" in error.value.remedy
    got = features(header, 8, drop_channels=["ECG", "HEOG", "C3", "P3"], min_channels=6)
    assert got.channel_names == ("Fp1", "Fp2", "C4", "O1", "O10", "P4")


def test_channels_with_nan_are_named(record):
    header = record(fmt="binary_float32")
    samples = np.fromfile(header.with_suffix(".eeg"), "<f4").reshape(-1, len(NAMES))
    samples[5000, 1] = np.nan
    samples[9000, 5] = np.inf
    samples[100, 3] = np.nan  # ECG is not used
    samples.tofile(header.with_suffix(".eeg"))
    with pytest.raises(DataError, match=r"NaN or infinite samples in Fp2, O1"):
        features(header, 8)


def test_excluding_o1_leaves_o10_and_ignores_case(record):
    got = features(record(), 8, drop_channels=["ecg", "HEOG", "O1"], min_channels=7)
    assert got.channel_names == tuple(name for name in SCALP if name != "O1")


def test_too_few_channels(record):
    with pytest.raises(DataError, match=r"8 scalp channels of 10 are left, .* asks for 9"):
        features(record(), 8, min_channels=9)


def test_eeg_shorter_than_the_bold_run(record):
    with pytest.raises(DataError, match=r"shorter than the BOLD run: .* 18\.\d+ s, .* 43\.200 s"):
        features(record(), 20)


def test_too_few_markers(record):
    with pytest.raises(DataError, match="too few volume markers: 8 for 9"):
        features(record(first=3000), 9)


def test_nothing_left_after_dropping(record):
    with pytest.raises(DataError, match="covers 8 volumes and the first 8 are dropped"):
        features(record(), 8, dummy_scans=8)


def test_window_longer_than_the_tr(record):
    with pytest.raises(ConfigError, match=r"eeg\.window_s.* longer than the TR"):
        features(record(), 8, window_s=2.5)


def test_rate_too_low_for_the_pass_band(record):
    with pytest.raises(DataError, match="60 Hz, too slow"):
        features(record(sfreq_hz=60), 8)


@pytest.mark.realdata
def test_real_recording_of_two_seconds(realdata):
    header = realdata / "mnebids_tiny" / "sub-01_ses-eeg_task-rest_eeg.vhdr"
    got = features(header, 2, tr_s=1.0, marker=None, windows_per_tr=1)
    assert got.power.shape == (2, 64, 30)
    assert not {"ECG", "HEOG", "VEOG", "GSR", "Temperature"} & set(got.channel_names)
    raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    filtered = raw.pick(list(got.channel_names)).filter(1, 30, verbose="error").get_data() * 1e6
    volumes = filtered[:, ::5].reshape(64, 2, 1000)
    _, density = welch(volumes, 1000, nperseg=1000, detrend=False)
    expected = density[..., 1:31].transpose(1, 0, 2)
    np.testing.assert_allclose(got.power, expected, rtol=1e-3, atol=1e-4 * expected.max())
