"""Resting-state networks: planted ones are found, and a prediction without them is seen."""

import numpy as np
import pytest

from eeg2fmri_dist.evaluation.report.network_figure import network_figure
from eeg2fmri_dist.scores.networks import (
    Regions,
    correlation_matrix,
    find_networks,
    network_correlations,
)

PLANTED = np.array([1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 1, 2])  # in order of size: 0 has most

VOXEL_MM = (3.0, 3.0, 4.0)


@pytest.fixture
def series():
    rng = np.random.default_rng(0)
    return rng.standard_normal((200, 3))[:, PLANTED] + 0.5 * rng.standard_normal((200, 12))


@pytest.fixture
def regions():
    labels = np.zeros((6, 4, 5), int)
    labels[:, 1, 2] = np.arange(1, 7)
    labels[:, 2, 3] = np.arange(7, 13)
    return Regions(labels, tuple(f"area {number}" for number in range(12)), "planted")


def test_planted_networks_are_found(series):
    assert find_networks(correlation_matrix(series), 3).tolist() == PLANTED.tolist()


def test_means_are_over_pairs_of_different_regions(series):
    matrix = correlation_matrix(series)
    means = network_correlations(matrix, PLANTED)
    first, last = (np.flatnonzero(network == PLANTED) for network in (0, 2))
    pairs = [matrix[a, b] for a in first for b in first if a != b]
    assert means[0, 0] == pytest.approx(np.mean(pairs))
    between = pytest.approx(matrix[np.ix_(first, last)].mean())
    assert means[0, 2] == between
    assert means[2, 0] == between
    alone = network_correlations(matrix[:3, :3], np.array([0, 0, 1]))
    assert np.isnan(alone[1, 1])
    assert alone[0, 0] == pytest.approx(matrix[0, 1])


def test_caption_tells_networks_and_what_of_them_is_predicted(series, regions):
    good = network_figure(series, series, regions, VOXEL_MM)
    assert "1: area 1, area 3 and" in good.caption
    assert "similarity of the pairs of networks 1.00" in good.caption
    noise = np.random.default_rng(1).standard_normal(series.shape)
    bad = network_figure(noise, series, regions, VOXEL_MM)
    gap = float(bad.caption.split("predicted ")[1].split(";")[0].replace("−", "-"))
    assert abs(gap) < 0.1
    constant = network_figure(np.ones_like(series), series, regions, VOXEL_MM)
    assert "predicted 0.00" in constant.caption
