"""Principal components against a singular value decomposition by numpy."""

import numpy as np
import pytest
import torch

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.principal_components import PrincipalComponents

GRID = (6, 5, 4)


def volumes_with_decaying_spectrum(n=60, offset=3.0):
    generator = np.random.default_rng(0)
    left, _ = np.linalg.qr(generator.standard_normal((n, n)))
    right, _ = np.linalg.qr(generator.standard_normal((120, n)))
    matrix = left * 30 * 0.8 ** np.arange(n) @ right.T + offset * generator.standard_normal(120)
    return torch.tensor(matrix.reshape(n, *GRID), dtype=torch.float32)


def fitted(blocks, d_token=5):
    pca = PrincipalComponents(GRID, d_token)
    pca.fit(blocks)
    return pca


def by_numpy(volumes, d_token=5):
    matrix = volumes.flatten(1).double().numpy()
    centered = matrix - matrix.mean(0)
    _, singular_values, right = np.linalg.svd(centered, full_matrices=False)
    return matrix.mean(0), singular_values[:d_token] / np.sqrt(len(matrix)), right[:d_token]


def assert_same(pca, volumes, tolerance):
    mean, scale, right = by_numpy(volumes)
    np.testing.assert_allclose(pca.mean, mean, atol=1e-5)
    np.testing.assert_allclose(pca.scale, scale, rtol=tolerance)
    overlap = np.abs((pca.components.numpy() * right).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=tolerance)


def test_one_block_equals_numpy():
    volumes = volumes_with_decaying_spectrum()
    assert_same(fitted([volumes]), volumes, 1e-5)


@pytest.mark.parametrize("size", [1, 7, 25])
def test_blocks_of_any_size_come_close(size):
    volumes = volumes_with_decaying_spectrum()
    assert_same(fitted(volumes.split(size)), volumes, 0.02)


def test_blocks_are_exact_where_the_rank_fits_the_basis():
    volumes = volumes_with_decaying_spectrum(n=10)
    assert_same(fitted(volumes.split(3)), volumes, 1e-4)


def test_voxels_that_never_change_may_be_left_out():
    volumes = volumes_with_decaying_spectrum()
    mask = torch.zeros(GRID, dtype=torch.bool)
    mask[1:4, :, 1:] = True
    volumes = torch.where(mask, volumes, -2.5)
    whole, masked = fitted([volumes]), PrincipalComponents(GRID, 5)
    masked.fit([volumes], mask)
    for name, expected in whole.state_dict().items():
        torch.testing.assert_close(getattr(masked, name), expected, rtol=1e-4, atol=1e-4)


def test_tokens_have_unit_variance_and_no_correlation():
    volumes = volumes_with_decaying_spectrum()
    tokens = fitted([volumes]).encode(volumes)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.T @ tokens / 60, torch.eye(5), atol=1e-4, rtol=0)


def test_reconstruction_is_the_best_of_its_rank():
    volumes = volumes_with_decaying_spectrum()
    error = (fitted([volumes])(volumes) - volumes).square().sum()
    matrix = volumes.flatten(1).double().numpy()
    singular_values = np.linalg.svd(matrix - matrix.mean(0), compute_uv=False)
    np.testing.assert_allclose(float(error), (singular_values[5:] ** 2).sum(), rtol=1e-4)


def test_sign_does_not_depend_on_the_sign_of_the_data():
    volumes = volumes_with_decaying_spectrum()
    torch.testing.assert_close(
        fitted([volumes]).components, fitted([-volumes]).components, atol=1e-5, rtol=0
    )


def test_small_components_survive_large_ones():
    """A first component 10,000 times as large must not drown the others in rounding."""
    volumes = volumes_with_decaying_spectrum(offset=0.0)
    volumes += 1e5 * torch.randn(60, 1, 1, 1) * torch.linspace(-1, 1, 120).reshape(GRID)
    pca = fitted([volumes])
    gram = pca.components @ pca.components.T
    torch.testing.assert_close(gram, torch.eye(5), atol=1e-4, rtol=0)
    _, scale, _ = by_numpy(volumes)
    np.testing.assert_allclose(pca.scale[1:], scale[1:], rtol=0.01)


def test_too_few_volumes_are_refused():
    with pytest.raises(DataError, match="4 training volumes span 3 dimensions"):
        fitted([torch.randn(4, *GRID)])


def test_values_that_are_not_finite_are_refused():
    volumes = volumes_with_decaying_spectrum()
    volumes[3, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        fitted([volumes])
