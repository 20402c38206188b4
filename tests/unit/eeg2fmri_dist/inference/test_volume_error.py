"""The error of volumes that training lowers."""

from __future__ import annotations

import pytest
import torch

from eeg2fmri_dist.inference.objectives import Objective

PREDICTED = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
TRUE = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(2))
MASK = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(3)) < 0.4


def _error_and_gradient(mask, dtype=torch.float32):
    predicted = PREDICTED.detach().to(dtype, copy=True).requires_grad_()
    error = Objective(torch.nn.Identity(), mask).volume_error(predicted, TRUE)
    (3 * error).backward()
    return error.detach(), predicted.grad


def _picked(dtype=torch.float32):
    predicted = PREDICTED.detach().to(dtype, copy=True).requires_grad_()
    error = (predicted.float()[..., MASK] - TRUE[..., MASK]).square().mean()
    (3 * error).backward()
    return error.detach(), predicted.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_in_a_mask_is_that_of_its_voxels(dtype):
    error, gradient = _error_and_gradient(MASK, dtype)
    expected, expected_gradient = _picked(dtype)
    assert error.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(error, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert (gradient[..., ~MASK] == 0).all()


def test_error_without_a_mask_is_that_of_the_grid():
    error, gradient = _error_and_gradient(None)
    everywhere, same_gradient = _error_and_gradient(torch.ones(4, 5, 6, dtype=torch.bool))
    torch.testing.assert_close(error, torch.nn.functional.mse_loss(PREDICTED, TRUE))
    torch.testing.assert_close(error, everywhere)
    torch.testing.assert_close(gradient, same_gradient)
