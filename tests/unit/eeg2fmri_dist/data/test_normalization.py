"""Normalization against numpy on whole arrays."""

import functools
import operator
from dataclasses import asdict

import numpy as np
import pytest

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import (
    fit_scaling,
    fit_trend,
    normalize_eeg,
    polynomial_basis,
    sum_for_scaling,
    to_volumes,
)
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(make_store(tmp_path_factory.mktemp("store") / "s.h5", n_subjects=3, n_volumes=80))


SEGMENTS = [Segment(0, 0, 80), Segment(1, 80, 160)]


def test_voxelwise_target_is_the_residual_of_a_polynomial_fit(store):
    bold = np.array(store.bold(80, 160), dtype=np.float64)
    time = np.arange(80)
    mask = store.layout.mask
    series = bold[:, mask]
    residual = (
        series
        - np.polynomial.polynomial.polyval(
            time, np.polynomial.polynomial.polyfit(time, series, 2)
        ).T
    )
    ours = fit_trend(store, SEGMENTS[1], order=2).standardize(store.bold(80, 160), 0)
    np.testing.assert_allclose(ours[:, mask], residual / residual.std(axis=0), atol=2e-3)
    assert (ours[:, ~mask] == 0).all()


def test_a_part_of_a_recording_is_standardized_as_in_the_whole(store):
    trend = fit_trend(store, SEGMENTS[0], order=1)
    whole = trend.standardize(store.bold(0, 80), 0)
    part = trend.standardize(store.bold(30, 50), 30)
    np.testing.assert_allclose(part, whole[30:50], atol=1e-4)


def test_scaling_is_numpy_over_the_training_recordings_alone(store):
    scaling = fit_scaling(store, SEGMENTS, DataConfig(detrend_order=0))
    bold = np.array(store.bold(0, 160), dtype=np.float64)
    np.testing.assert_allclose(scaling.bold_mean, bold.mean(), rtol=1e-6)
    np.testing.assert_allclose(scaling.bold_std, bold.std(), rtol=1e-6)
    np.testing.assert_allclose(scaling.reference, bold.mean(axis=0), rtol=1e-5)
    assert (scaling.bold_min, scaling.bold_max) == (bold.min(), bold.max())
    halves = bold[:80], bold[80:]
    temporal = np.mean([half.var(axis=0) for half in halves]) / bold.var()
    np.testing.assert_allclose(scaling.temporal_share, temporal, rtol=1e-4)
    fraction = np.mean([h.std(axis=0) / np.maximum(h.mean(axis=0), 1e-9) for h in halves], axis=0)
    mask = store.layout.mask
    np.testing.assert_allclose(scaling.fraction[mask], fraction[mask], rtol=1e-3)


def test_ranks_that_share_the_recordings_out_find_the_same_scaling(store):
    segments = [*SEGMENTS, Segment(2, 160, 240)]
    whole = asdict(fit_scaling(store, segments, DataConfig()))
    for world_size in (2, 3, 5):  # the last leaves ranks without a recording
        parts = [
            sum_for_scaling(store, segments[rank::world_size], DataConfig())
            for rank in range(world_size)
        ]
        shared = asdict(functools.reduce(operator.add, parts).scaling())
        for name, value in whole.items():
            np.testing.assert_allclose(shared[name], value, rtol=1e-6, err_msg=name)


def test_eeg_is_z_scored_by_recording_or_by_training_statistics(store):
    scaling = fit_scaling(store, SEGMENTS, DataConfig())
    power = store.eeg(160, 240)
    own = normalize_eeg(power, DataConfig(), scaling)
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(own.std(axis=0), 1, atol=1e-4)
    shared = normalize_eeg(power, DataConfig(eeg_normalize="global"), scaling)
    log = np.log(np.array(store.eeg(0, 160)))
    expected = (np.log(power) - log.mean(axis=0)) / log.std(axis=0)
    np.testing.assert_allclose(shared, expected, atol=1e-3)


def test_global_normalization_is_undone_exactly(store):
    config = DataConfig(normalize="global")
    scaling = fit_scaling(store, SEGMENTS, config)
    volumes = store.bold(0, 5)
    normalized = (volumes - scaling.bold_mean) / scaling.bold_std
    np.testing.assert_allclose(to_volumes(normalized, config, scaling), volumes, atol=1e-2)


def test_no_predicted_change_is_the_reference_image(store):
    scaling = fit_scaling(store, SEGMENTS, DataConfig())
    volumes = to_volumes(np.zeros((2, *store.grid), np.float32), DataConfig(), scaling)
    np.testing.assert_array_equal(volumes[1], scaling.reference)


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_polynomial_basis_is_orthonormal(length):
    basis = polynomial_basis(length, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
