"""Windows of a volume and their power, against SciPy and known sines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT, welch

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import ConfigError
from preprocessing.eeg.spectrum import PowerSpectrum, band_average, bin_frequencies, place_windows

BINS_HZ = np.arange(1.0, 31.0)


def power(signal, starts, sfreq_hz=1000.0, frequencies_hz=BINS_HZ, window_s=1.0):
    spectrum = PowerSpectrum(frequencies_hz, window_s, sfreq_hz)
    return spectrum.mean_power(np.atleast_2d(signal).astype(np.float32), np.array(starts))


def sine(frequency_hz, amplitude, sfreq_hz, duration_s=2.16, phase=0.3):
    t = np.arange(round(duration_s * sfreq_hz)) / sfreq_hz
    return amplitude * np.sin(2 * np.pi * frequency_hz * t + phase)


def test_windows_follow_each_other_evenly_across_volumes():
    starts = place_windows(2160.0 * np.arange(3), 2160.0, 1000, 12, 3 * 2160)
    np.testing.assert_array_equal(starts[1], -410 + 180 * np.arange(12, 24))
    # Those of the first and the last volume would reach out of the signal.
    np.testing.assert_array_equal(starts[0], np.ceil(np.linspace(0, 1570, 12)))
    np.testing.assert_array_equal(starts[2], np.ceil(np.linspace(3910, 5480, 12)))


@given(
    onset=st.floats(0, 1e6),
    volume=st.floats(10, 1e4),
    length=st.integers(1, 10_000),
    n_windows=st.integers(1, 40),
    more=st.integers(0, 20_000),
)
def test_windows_lie_in_the_signal_with_their_middles_in_the_volume(
    onset, volume, length, n_windows, more
):
    n_samples = length + int(onset) + more
    starts = place_windows(np.array([onset]), volume, length, n_windows, n_samples)[0]
    assert len(starts) == n_windows
    assert starts.min() >= 0
    assert starts.max() + length <= n_samples
    middles = starts + length / 2
    free = (starts > 0) & (starts < n_samples - length)
    assert np.all((onset <= middles[free]) & (middles[free] <= onset + volume + 1))
    assert len(starts[free]) < 2 or np.ptp(np.diff(starts[free])) <= 1


def test_one_window_lies_in_the_middle():
    assert place_windows(np.array([0.0]), 2160.0, 1000, 1, 2160) == 580


@pytest.mark.parametrize("sfreq_hz", [250.0, 512.0, 1000.0, 1024.0, 333.3])
@pytest.mark.parametrize("frequency_hz", [2.0, 10.0, 29.0])
def test_sine_of_known_amplitude(sfreq_hz, frequency_hz):
    amplitude = 7.0
    got = power(sine(frequency_hz, amplitude, sfreq_hz), range(0, 200, 10), sfreq_hz)[0]
    own = int(frequency_hz) - 1
    variance = amplitude**2 / 2
    assert got.argmax() == own
    assert got[own - 1 : own + 2].sum() == pytest.approx(variance, rel=5e-3)
    assert got[own] == pytest.approx(variance * 2 / 3, rel=5e-3)
    assert np.delete(got, range(own - 1, own + 2)).max() < 1e-3 * variance


def test_sine_between_bins_keeps_its_power():
    got = power(sine(10.5, 4.0, 1000.0), range(0, 1160, 58))[0]
    assert got[7:14].sum() == pytest.approx(8.0, rel=5e-3)
    assert got[9] == pytest.approx(got[10], rel=2e-2)


def test_equal_to_scipy_welch():
    signal = np.random.default_rng(0).normal(scale=20, size=(5, 2160))
    got = power(signal, range(0, 1161, 116))
    _, density = welch(signal, 1000, "hann", nperseg=1000, noverlap=884, detrend=False)
    np.testing.assert_allclose(got, density[:, 1:31], rtol=1e-4)


def test_equal_to_scipy_short_time_fft():
    signal = np.random.default_rng(1).normal(scale=20, size=(2, 1500))
    transform = ShortTimeFFT.from_window(
        "hann", 500, nperseg=500, noverlap=450, fft_mode="onesided2X", scale_to="psd"
    )
    slices = np.arange(5, 16)  # centered on 250, 300, ... : windows from 0, 50, ...
    density = transform.spectrogram(signal)[:, :, slices - transform.p_min]
    got = power(signal, (slices - 5) * 50, 500.0)
    np.testing.assert_allclose(got, density.mean(axis=2)[:, 1:31], rtol=1e-4)


@given(st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_power_of_a_bin_follows_its_width(window_s, seed):
    """White noise of density d holds d x width per bin, whichever the window."""
    signal = np.random.default_rng(seed).normal(scale=3, size=(60, 4000))
    frequencies_hz = bin_frequencies(EegConfig(window_s=window_s))
    got = power(signal, range(0, 2001, 250), 500.0, frequencies_hz, window_s)
    assert got.mean() == pytest.approx(9 / 250 / window_s, rel=0.15)


@pytest.mark.parametrize(
    ("window_s", "n_bins", "step"), [(1.0, 30, 1), (2.0, 59, 0.5), (0.5, 15, 2)]
)
def test_bins_of_the_pass_band(window_s, n_bins, step):
    frequencies_hz = bin_frequencies(EegConfig(window_s=window_s))
    assert len(frequencies_hz) == n_bins
    assert frequencies_hz[-1] == 30
    np.testing.assert_allclose(np.diff(frequencies_hz), step)


def test_pass_band_without_a_bin():
    with pytest.raises(ConfigError, match=r"window_s.*no bin"):
        bin_frequencies(EegConfig(window_s=0.1, band_hz=(11, 14)))


def test_bands_average_their_bins_without_the_upper_edge():
    members = [np.flatnonzero(column) + 1 for column in band_average(BINS_HZ).T]
    expected = [range(1, 4), range(4, 8), range(8, 13), range(13, 30)]
    for member, band in zip(members, expected, strict=True):
        np.testing.assert_array_equal(member, band)
    np.testing.assert_allclose(band_average(BINS_HZ).sum(axis=0), 1, rtol=1e-6)


def test_band_outside_the_pass_band():
    with pytest.raises(ConfigError, match=r"no Fourier bin lies in delta \(1-4 Hz\)"):
        band_average(np.arange(5.0, 31.0))
