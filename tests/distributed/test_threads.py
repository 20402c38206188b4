"""Threads of a rank: of torch and numpy alike, so that ranks leave each other cores."""

import os

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from eeg2fmri_dist.training.run import _use_threads


@pytest.fixture
def restored():
    before = torch.get_num_threads()
    with threadpool_limits(None):
        yield
    torch.set_num_threads(before)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_a_limit_holds_for_torch_and_numpy(restored):
    _use_threads(1)
    assert torch.get_num_threads() == 1
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert pools
    assert set(pools) == {1}
