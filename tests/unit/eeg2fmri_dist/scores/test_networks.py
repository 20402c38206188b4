"""Regional means and correlation matrices against plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import linalg

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.scores.networks import (
    Regions,
    correlation_matrix,
    identified,
    matrix_distance,
    matrix_similarity,
    regional_means,
)


@settings(max_examples=40, deadline=None)
@given(labels=hnp.arrays(np.int16, (4, 3, 5), elements=st.integers(0, 3)), seed=st.integers(0, 99))
def test_regional_means_are_means_over_voxels(labels, seed):
    labels.flat[:3] = [1, 2, 3]
    volumes = np.random.default_rng(seed).normal(size=(6, 4, 3, 5)).astype(np.float32)
    expected = np.stack([volumes[:, labels == k].mean(axis=1) for k in (1, 2, 3)], axis=1)
    np.testing.assert_allclose(regional_means(volumes, labels, 3), expected, atol=1e-6)


def test_regional_means_of_a_view_that_repeats_one_image():
    volumes = np.broadcast_to(np.arange(8.0).reshape(2, 2, 2), (5, 2, 2, 2))
    labels = np.array([1, 1, 0, 0, 0, 0, 2, 2]).reshape(2, 2, 2)
    np.testing.assert_allclose(regional_means(volumes, labels, 2), [[0.5, 6.5]] * 5)


def test_region_without_voxels_is_refused():
    with pytest.raises(DataError, match="3 regions"):
        regional_means(np.zeros((2, 2, 2, 2)), np.ones((2, 2, 2), int), 3)


def test_regions_that_the_mask_cuts_away_are_dropped_and_the_rest_renumbered():
    labels = np.repeat(np.arange(4), 10).reshape(4, 10, 1)
    mask = np.ones((4, 10, 1), bool)
    mask[2, 1:] = False
    regions = Regions.within(mask, labels, ["a", "b", "c"], "atlas")
    assert regions.names == ("a", "c")
    assert np.unique(regions.labels).tolist() == [0, 1, 2]
    assert (regions.labels[3] == 2).all()
    assert not regions.labels[2].any()


def test_labels_without_names_are_refused():
    with pytest.raises(DataError, match="no name"):
        Regions.within(np.ones((1, 1, 9), bool), np.full((1, 1, 9), 3), ["a"], "atlas")


def test_correlation_matrix_equals_numpy():
    series = np.random.default_rng(0).normal(size=(40, 6))
    np.testing.assert_allclose(correlation_matrix(series), np.corrcoef(series.T), atol=1e-12)


def test_region_that_never_changes_correlates_with_nothing():
    series = np.random.default_rng(0).normal(size=(40, 3))
    series[:, 1] = 700.0
    matrix = correlation_matrix(series)
    assert matrix[1].tolist() == [0, 1, 0]


def test_matrix_similarity_looks_at_the_upper_triangle_alone():
    rng = np.random.default_rng(0)
    first, second = (np.corrcoef(rng.normal(size=(5, 30))) for _ in range(2))
    upper = np.triu_indices(5, 1)
    expected = np.corrcoef(first[upper], second[upper])[0, 1]
    assert matrix_similarity(first, second) == pytest.approx(expected)
    assert matrix_similarity(first, first) == pytest.approx(1.0)
    assert matrix_similarity(np.eye(5), first) == 0.0
    assert np.isnan(matrix_similarity(np.eye(2), np.eye(2)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_distance_of_matrices_is_that_of_their_logarithms_under_any_mixing(seed):
    rng = np.random.default_rng(seed)
    one, other = (correlation_matrix(rng.normal(size=(30, 4))) for _ in range(2))
    root = linalg.inv(linalg.sqrtm(0.9 * other + 0.1 * np.eye(4)))
    expected = np.linalg.norm(linalg.logm(root @ (0.9 * one + 0.1 * np.eye(4)) @ root)) / 2
    assert matrix_distance(one, other) == pytest.approx(expected)
    assert matrix_distance(other, one) == pytest.approx(expected)
    assert matrix_distance(one, one) == pytest.approx(0, abs=1e-7)


def test_distance_of_singular_matrices_is_finite():
    constant = correlation_matrix(np.ones((5, 6)))
    few = correlation_matrix(np.random.default_rng(0).normal(size=(3, 6)))
    assert 0 < matrix_distance(constant, few) < 10


def test_recordings_are_identified_by_their_own_matrix():
    rng = np.random.default_rng(0)
    true = [correlation_matrix(rng.normal(size=(30, 6))) for _ in range(3)]
    assert identified(true, true) == [True, True, True]
    assert identified([true[1], true[0], true[2]], true) == [False, False, True]
    assert identified([np.eye(6)] * 3, true) == [False, False, False]
    assert identified([true[0]] * 3, true) == [True, False, False]
