"""Spectra of regional BOLD against known courses and scipy."""

import numpy as np
import pytest
from scipy import signal

from eeg2fmri_dist.evaluation.report.spectra import regional_spectra, spectra_figures

TR_S = 2.0


def test_power_is_where_a_known_course_has_it_and_as_much_of_it():
    time_s = np.arange(128) * TR_S
    fast, slow = np.sin(2 * np.pi * 0.125 * time_s), np.sin(2 * np.pi * 0.03125 * time_s)
    true = 1000 + np.column_stack([slow, 2 * slow])
    frequencies_hz, of_true, of_predicted, _ = regional_spectra(1000 + 0.5 * true, true, TR_S)
    assert frequencies_hz[of_true.argmax()] == pytest.approx(0.03125)
    np.testing.assert_allclose(of_predicted, 0.25 * of_true, atol=1e-12)
    # Other power at another frequency.
    predicted = 1000 + np.column_stack([fast, fast])
    _, of_true, of_predicted, _ = regional_spectra(predicted, true, TR_S)
    assert frequencies_hz[of_predicted.argmax()] == pytest.approx(0.125)
    assert of_predicted.sum() / of_true.sum() == pytest.approx(2 / 5, rel=0.01)


def test_coherence_is_that_of_scipy_and_0_where_nothing_changes():
    rng = np.random.default_rng(0)
    true = 1000 + rng.standard_normal((100, 3))
    predicted = true + rng.standard_normal((100, 3))
    predicted[:, 2] = 1000
    *_, coherence = regional_spectra(predicted, true, TR_S)
    expected = [
        signal.coherence(predicted[:, k], true[:, k], fs=1 / TR_S, nperseg=32)[1][1:]
        for k in range(2)
    ]
    np.testing.assert_allclose(coherence, np.sum(expected, axis=0) / 3)


def test_figures_say_what_they_show_and_short_recordings_have_none():
    series = 1000 + np.random.default_rng(1).standard_normal((40, 2))
    power, agreement = spectra_figures(series, series, TR_S)
    assert "true (black) and predicted (blue)" in power.alt
    assert agreement.data.lstrip().startswith(b"<?xml")
    assert spectra_figures(series[:12], series[:12], TR_S) == []
