"""Intervals cover, p-values of unrelated series are uniform, shifts are what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from eeg2fmri_dist.evaluation.significance import (
    circular_shift_p,
    compare_regions,
    regional_shift_correlations,
    shift_correlations,
    sign_flip_test,
    smallest_sign_flip_p,
    subject_interval,
)
from eeg2fmri_dist.scores.temporal import temporal_correlation


def smooth_series(rng, volumes=100, regions=5):
    """Regional series with a hemodynamic autocorrelation and a common part."""
    raw = rng.normal(size=(volumes + 40, regions)) + rng.normal(size=(volumes + 40, 1))
    return gaussian_filter1d(raw, 2.0, axis=0)[20:-20]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), volumes=st.integers(4, 41), shift=st.integers(0, 60))
def test_shift_correlations_equal_rolling_the_prediction(seed, volumes, shift):
    predicted, true = np.random.default_rng(seed).normal(size=(2, volumes, 3))
    rolled = np.roll(predicted, shift % volumes, axis=0)
    expected = temporal_correlation(rolled, true).mean()
    assert shift_correlations(predicted, true)[shift % volumes] == pytest.approx(expected)


@pytest.mark.parametrize("recordings", [1, 3])
def test_p_values_of_unrelated_predictions_are_uniform(recordings):
    rng = np.random.default_rng(1)
    p = [
        circular_shift_p(
            [shift_correlations(smooth_series(rng), smooth_series(rng)) for _ in range(recordings)],
            draws=400,
            seed=index,
        )
        for index in range(500)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def null_test(rng, recordings=2):
    """Regions of a prediction that has nothing to do with the truth."""
    return compare_regions(
        [
            regional_shift_correlations(smooth_series(rng), smooth_series(rng))
            for _ in range(recordings)
        ],
        draws=400,
    )


def test_p_values_of_regions_are_uniform_and_few_null_data_sets_have_a_discovery():
    rng = np.random.default_rng(3)
    tests = [null_test(rng) for _ in range(400)]
    # One region of each data set: regions of one set are not independent.
    assert stats.kstest([test.p[2] for test in tests], "uniform").pvalue > 0.01
    discovered = np.mean([bool(test.found()) for test in tests])
    assert discovered < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    uncorrected = np.mean([min(test.p) <= 0.05 for test in tests])
    assert uncorrected > 0.1


def test_the_bound_on_null_p_values_can_fail():
    """Shuffling single volumes, which breaks their autocorrelation, finds far too much."""
    rng = np.random.default_rng(4)
    p = []
    for _ in range(100):
        predicted, true = smooth_series(rng), smooth_series(rng)
        observed = temporal_correlation(predicted, true).mean()
        null = [temporal_correlation(rng.permutation(predicted), true).mean() for _ in range(99)]
        p.append((1 + sum(value >= observed for value in null)) / 100)
    assert stats.kstest(p, "uniform").pvalue < 0.01
    assert np.mean(np.array(p) <= 0.05) > 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_regions_that_follow_the_truth_are_found_and_the_others_are_not():
    rng = np.random.default_rng(5)
    curves = []
    for _ in range(4):
        true, predicted = smooth_series(rng), smooth_series(rng)
        predicted[:, :2] += 2 * true[:, :2]
        curves.append(regional_shift_correlations(predicted, true))
    test = compare_regions(curves)
    assert set(test.found()) == {0, 1}
    assert test.r[0] == pytest.approx(np.mean([curve[0, 0] for curve in curves]))


def test_correction_over_regions_by_hand():
    """Benjamini and Hochberg: p times regions over rank, made monotonous from the largest."""
    test = null_test(np.random.default_rng(6), recordings=1)
    order = np.argsort(test.p)[::-1]
    ranks = np.arange(len(test.p), 0, -1)
    expected = np.minimum.accumulate(np.array(test.p)[order] * len(test.p) / ranks)
    np.testing.assert_allclose(np.array(test.q)[order], np.minimum(expected, 1))


def test_p_value_of_a_prediction_that_follows_the_truth_is_small():
    rng = np.random.default_rng(0)
    truths = [smooth_series(rng) for _ in range(4)]
    curves = [shift_correlations(0.6 * true + smooth_series(rng), true) for true in truths]
    assert circular_shift_p(curves) < 0.001
    assert circular_shift_p(curves[:1]) <= 0.05
    assert circular_shift_p([-curve for curve in curves]) > 0.9


def test_p_value_of_a_constant_prediction_is_one():
    true = smooth_series(np.random.default_rng(0))
    constant = shift_correlations(np.full_like(true, 700.0), true)
    assert circular_shift_p([constant]) == 1.0
    assert circular_shift_p([constant, constant]) == 1.0


def test_p_value_by_hand_and_smallest_shift():
    curve = np.array([0.5, 0.6, 0.1, 0.0, -0.2, 0.5])
    assert circular_shift_p([curve]) == pytest.approx(3 / 6)
    assert circular_shift_p([curve], min_shift=2) == pytest.approx(1 / 4)


@pytest.mark.parametrize("subjects", [4, 7, 8, 16])
def test_interval_covers_the_mean(subjects):
    rng = np.random.default_rng(subjects)
    inside = 0
    for _ in range(600):
        interval = subject_interval(rng.normal(0.3, 0.1, subjects), resamples=600)
        inside += interval.low <= 0.3 <= interval.high
    # Binomial spread of 600 trials is 0.9 %; expanded percentiles cover 93 to 95 %.
    assert 0.91 < inside / 600 < 0.98


def test_interval_below_eight_subjects_is_that_of_student():
    values = [0.1, 0.3, 0.2, 0.5]
    interval = subject_interval(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.method == "Student's t"


@pytest.mark.parametrize("subjects", [4, 7])
def test_interval_on_the_log_scale_covers_the_mean_of_ratios(subjects):
    rng = np.random.default_rng(subjects)
    inside = 0
    for _ in range(600):
        interval = subject_interval(np.exp(rng.normal(0, 0.5, subjects)), scale="log")
        inside += interval.low <= np.exp(0.5**2 / 2) <= interval.high
    assert 0.9 < inside / 600 < 0.98


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=3, max_size=10))
def test_interval_on_the_log_scale_holds_the_mean_and_nothing_below_zero(values):
    interval = subject_interval(values, scale="log", resamples=200)
    assert 0 <= interval.low <= interval.high
    if interval.method != "bootstrap":
        assert interval.low <= interval.mean <= interval.high


def test_interval_on_the_log_scale_by_hand():
    # t(3) = 3.182 at 97.5 %; the mean is 0.5.
    interval = subject_interval([0.0, 0.0, 1.0, 1.0], scale="log")
    error = np.std([0, 0, 1, 1], ddof=1) / 2
    assert subject_interval([0.0, 0.0, 1.0, 1.0]).low < 0
    assert interval.low == pytest.approx(0.5 * np.exp(-3.18245 * error / 0.5), rel=1e-4)
    assert interval.high == pytest.approx(0.5 * np.exp(3.18245 * error / 0.5), rel=1e-4)
    assert interval.method == "Student's t, log scale"
    assert subject_interval([0.0, 0.0, 0.0], scale="log").high == 0


def test_interval_is_repeatable_and_says_how_it_was_made():
    values = np.random.default_rng(0).normal(size=12)
    assert subject_interval(values, seed=3) == subject_interval(values, seed=3)
    assert subject_interval(values, seed=3) != subject_interval(values, seed=4)
    assert subject_interval(values).method == "bootstrap"


@pytest.mark.parametrize("values", [[0.4], [0.3, 0.5]])
def test_two_subjects_have_a_mean_and_no_interval(values):
    interval = subject_interval(values)
    assert interval.mean == pytest.approx(0.4)
    assert not interval.known
    assert np.isnan(interval.low)


def test_sign_flips_of_few_subjects_are_those_of_scipy():
    differences = np.random.default_rng(0).standard_normal((5, 3)) + 0.5
    found = sign_flip_test(differences)
    for region in range(3):
        expected = stats.permutation_test(
            (differences[:, region],),
            np.mean,
            permutation_type="samples",
            alternative="greater",
            n_resamples=np.inf,
        )
        assert found.p[region] == pytest.approx(expected.pvalue)
    assert found.q == pytest.approx(stats.false_discovery_control(found.p))


def test_sign_flips_cannot_say_more_than_the_number_of_subjects_allows():
    assert sign_flip_test(np.full((4, 2), 0.3)).p == (1 / 16, 1 / 16)
    assert sign_flip_test(np.zeros((4, 2))).p == (1, 1)
    many = sign_flip_test(np.full((20, 2), 0.3))
    assert max(many.p) < 0.001
    assert [smallest_sign_flip_p(n) for n in (4, 20)] == [1 / 16, 1e-4]
    assert min(many.p) >= smallest_sign_flip_p(20)


@pytest.mark.parametrize("subjects", [6, 16])
def test_p_values_of_sign_flips_are_uniform_where_nothing_is_different(subjects):
    rng = np.random.default_rng(subjects)
    # Skewed by the same amount either way, regions of a subject alike.
    shared = rng.standard_t(3, size=(400, subjects, 1))
    p = [sign_flip_test(x + rng.standard_normal((subjects, 1)), draws=512).p[0] for x in shared]
    for level in (0.05, 0.25, 0.5):
        expected = np.floor(level * 2**subjects) / 2**subjects if subjects < 9 else level
        share = np.mean(np.array(p) <= level)
        assert abs(share - expected) < 4 * np.sqrt(level * (1 - level) / 400)
