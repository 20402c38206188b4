"""The DeepSpeed engine trains what plain PyTorch trains, on real ranks."""

import json

import pytest
from processes import run_ranks


@pytest.mark.parametrize("world_size", [1, 2])
def test_weights_equal_those_of_ddp_after_twenty_steps(world_size):
    output = run_ranks(["tests/distributed/compare_with_ddp.py"], world_size)
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    differences = json.loads(line.removeprefix("RESULT "))
    assert len(differences) == 8
    for case, relative_l2 in differences.items():
        if "clipped" in case:
            assert relative_l2 < 1e-4, case
        else:
            assert relative_l2 == 0, case
