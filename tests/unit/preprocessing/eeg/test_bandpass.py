"""Band-pass and decimation in one pass, against MNE's own filter."""

import itertools
from functools import cache

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.eeg.bandpass import Bandpass, decimation_factor

BAND_HZ = (1.0, 30.0)


@cache
def brown_noise(sfreq_hz, duration_s, n_channels=3, offset_uv=200.0):
    """Something like EEG: power falling with frequency, white noise on top, an offset."""
    rng = np.random.default_rng(0)
    shape = (n_channels, int(sfreq_hz * duration_s))
    walk = np.cumsum(rng.normal(size=shape), axis=1) * 60 / np.sqrt(sfreq_hz)
    return (walk + rng.normal(scale=5, size=shape) + offset_uv).astype(np.float32)


def bandpass(data, sfreq_hz, factor, origin=0):
    return Bandpass(lambda a, b: data[:, a:b], data.shape[1], sfreq_hz, BAND_HZ, factor, origin)


def mne_chain(data, sfreq_hz, factor):
    filtered = mne.filter.filter_data(data.astype(float), sfreq_hz, *BAND_HZ, verbose="error")
    return filtered[:, ::factor]


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.mark.parametrize(
    ("sfreq_hz", "target_hz", "factor"),
    [
        (5000, 1000, 5),
        (2500, 1000, 2),
        (2048, 1000, 2),
        (1024, 1000, 1),
        (1000, 1000, 1),
        (512, 1000, 1),
        (250, 1000, 1),
        (1e6 / 488.28125, 1024, 2),
    ],
)
def test_rate_never_falls_below_the_target_nor_rises(sfreq_hz, target_hz, factor):
    assert decimation_factor(sfreq_hz, target_hz) == factor


@pytest.mark.parametrize("sfreq_hz", [5000, 2048, 1000, 512, 250, 333.3])
def test_equal_to_the_mne_chain_edges_included(sfreq_hz):
    data = brown_noise(sfreq_hz, 15.1)
    factor = decimation_factor(sfreq_hz, 1000)
    expected = mne_chain(data, sfreq_hz, factor)
    got = bandpass(data, sfreq_hz, factor).span(0, expected.shape[1])
    assert rms(expected) > 5
    assert rms(got - expected) < 1e-3
    assert np.abs(got - expected).max() < 1e-2


def test_large_offsets_cost_no_precision():
    data = brown_noise(1000, 15.1)
    shifted = (data.astype(float) + 2**18).astype(np.float32)  # 262 mV, as of DC-coupled amplifiers
    expected = mne_chain(shifted, 1000, 1)
    got = bandpass(shifted, 1000, 1).span(0, expected.shape[1])
    assert rms(got - expected) < 1e-3


def test_recording_shorter_than_the_filter():
    data = brown_noise(1000, 1.2)  # the filter reaches 1.65 s to either side
    expected = mne_chain(data, 1000, 1)
    got = bandpass(data, 1000, 1).span(0, expected.shape[1])
    assert rms(got - expected) < 1e-3


@given(
    cuts=st.lists(st.integers(1, 2999), max_size=6, unique=True),
    factor=st.sampled_from([1, 2, 3, 5]),
    origin=st.integers(0, 40),
)
@settings(max_examples=25, deadline=None)
def test_spans_of_any_size_give_the_same_signal(cuts, factor, origin):
    data = brown_noise(1000, 3.1)
    n = (data.shape[1] - origin - 1) // factor + 1
    whole = bandpass(data, 1000, factor, origin).span(0, n)
    edges = sorted({0, n, *(cut % n for cut in cuts)})
    pieces = bandpass(data, 1000, factor, origin)
    joined = [pieces.span(a, b) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(joined, axis=1), whole, atol=2e-3)


def test_origin_sets_the_phase_of_decimation():
    data = brown_noise(5000, 10.0)
    expected = mne_chain(data, 5000, 1)[:, 1203::5]
    got = bandpass(data, 5000, 5, origin=1203).span(0, expected.shape[1])
    assert rms(got - expected) < 1e-3


def test_nothing_folds_down_from_above_the_new_nyquist():
    t = np.arange(50_000) / 5000
    data = np.array([1000 * np.sin(2 * np.pi * 990 * t)], dtype=np.float32)  # would fold to 10 Hz
    got = bandpass(data, 5000, 5).span(2000, 8000)
    assert rms(got) < 0.01


@pytest.mark.realdata
def test_equal_to_the_mne_chain_on_a_real_recording(realdata):
    raw = mne.io.read_raw_brainvision(
        realdata / "mnebids_tiny" / "sub-01_ses-eeg_task-rest_eeg.vhdr", verbose="error"
    )
    data = raw.get_data(picks="eeg") * 1e6
    expected = mne_chain(data, 5000, 5)
    got = bandpass(data.astype(np.float32), 5000, 5).span(0, expected.shape[1])
    # The recorder ran without an amplifier: 1.8 mV of white noise. Every fifth sample of MNE's
    # result holds what its stop-band let through above 500 Hz, folded down; ours does not.
    assert rms(got - expected) < 2e-5 * rms(data)
