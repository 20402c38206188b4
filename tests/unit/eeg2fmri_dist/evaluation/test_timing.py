"""Lags and dependence on later EEG, on time courses made by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eeg2fmri_dist.data.controls import middle, shifted_eeg, shifted_second_half, true_eeg
from eeg2fmri_dist.evaluation.significance import shift_correlations
from eeg2fmri_dist.evaluation.timing import best_lag, noncausal_fraction


@settings(max_examples=30, deadline=None)
@given(lag=st.integers(-5, 5), seed=st.integers(0, 99))
def test_a_prediction_that_comes_late_has_a_positive_lag(lag, seed):
    true = np.random.default_rng(seed).normal(size=(40, 3))
    found, r = best_lag(shift_correlations(np.roll(true, lag, axis=0), true))
    assert found == lag
    assert r == pytest.approx(1)


def test_a_constant_prediction_has_no_lag():
    true = np.random.default_rng(0).normal(size=(40, 3))
    assert best_lag(shift_correlations(np.ones_like(true), true)) == (0, 0.0)


def predictions(weights):
    """Regional means from EEG by a filter: `weights` maps a lag in TRs (negative: later) to one."""
    eeg = np.random.default_rng(1).normal(size=(61, 1, 1))

    def predict(eeg):
        padded = np.pad(eeg[:, 0, 0], 10)
        course = sum(
            weight * padded[10 - lag : 10 - lag + len(eeg)] for lag, weight in weights.items()
        )
        return 700 + np.stack([course, 2 * course], axis=1)

    changes = (true_eeg, shifted_eeg, shifted_second_half)
    return [predict(change(eeg)) for change in changes]


def test_a_causal_model_has_no_share_of_the_future():
    assert noncausal_fraction(*predictions({0: 1.0, 1: 0.5, 5: 0.3})) == 0


@pytest.mark.parametrize("ahead", [1, 4])
def test_a_model_that_reads_later_eeg_has_one(ahead):
    assert noncausal_fraction(*predictions({0: 1.0, -ahead: 0.2})) > 0.1
    assert noncausal_fraction(*predictions({-ahead: 1.0})) > 0.5


def test_centering_a_recording_is_no_view_of_the_future():
    centered = [course - course.mean(axis=0) for course in predictions({0: 1.0, 2: 0.5})]
    assert noncausal_fraction(*centered) < 1e-9


def test_a_model_without_eeg_has_no_share_of_the_future():
    course = np.random.default_rng(0).normal(size=(30, 2))
    assert noncausal_fraction(course, course, course) == 0


@given(st.integers(4, 400))
def test_the_cut_is_odd_and_near_the_middle(volumes):
    assert middle(volumes) % 2 == 1
    assert abs(middle(volumes) - volumes / 2) <= 1
