"""Spectral coherence against scipy and against what it must forgive."""

import numpy as np
import pytest
from scipy import signal

from eeg2fmri_dist.scores.temporal import spectral_coherence


def pair(volumes=200):
    return np.random.default_rng(0).normal(size=(2, volumes, 3))


def test_coherence_equals_that_of_scipy():
    predicted, true = pair()
    predicted = predicted + true
    expected = signal.coherence(predicted, true, nperseg=32, axis=0)[1][1:].mean()
    assert spectral_coherence(predicted, true) == pytest.approx(expected)


def test_coherence_forgives_scale_sign_and_delay():
    unrelated, true = pair()
    assert spectral_coherence(-3 * true + 7, true) == pytest.approx(1)
    assert spectral_coherence(np.roll(true, 2, axis=0), true) > 0.8
    assert spectral_coherence(unrelated, true) < 0.25


def test_a_constant_prediction_has_none():
    _, true = pair()
    assert spectral_coherence(np.full_like(true, 700.0), true) == 0
    assert np.isnan(spectral_coherence(true[:6], true[:6]))
