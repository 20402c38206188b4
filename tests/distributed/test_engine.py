"""The DeepSpeed engine trains what plain PyTorch trains, on real ranks."""

import json

import pytest
import torch

from tests.helpers.rank_processes import run_ranks

# Sums in another order: gradients clipped or accumulated, convolutions in another layout.
ROUNDED = ("clipped", "accumulated", "channels-last")


# Every stage and precision, and each option with one of them; all pairs by `make test-faults`.
SOME = (
    *(f"{stage}-{precision}" for stage in range(4) for precision in ("fp32", "bf16", "fp16")),
    "1-fp32-clipped",
    "2-fp32-accumulated",
    "3-fp32-recomputed",
    "0-fp32-channels-last",
    "2-fp32-offloaded",
)


@pytest.mark.parametrize(
    ("world_size", "chosen"),
    [
        pytest.param(1, (), marks=pytest.mark.faults, id="1-all"),
        pytest.param(2, (), marks=pytest.mark.faults, id="2-all"),
        pytest.param(2, SOME, id="2-some"),
    ],
)
def test_weights_equal_those_of_ddp_after_twenty_steps(world_size, chosen):
    """ZeRO 0-3, in fp32, bf16 and fp16, with what saves memory: bit for bit, or to rounding."""
    if 0 < torch.cuda.device_count() < world_size:
        pytest.skip(f"{world_size} ranks need as many GPUs, there is one")
    output = run_ranks(["tests/distributed/compare_with_ddp.py", *chosen], world_size)
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    differences = json.loads(line.removeprefix("RESULT "))
    assert len(differences) == (len(chosen) or 35)
    for case, relative_l2 in differences.items():
        if case.endswith(ROUNDED):
            assert relative_l2 < 1e-4, case
        else:
            assert relative_l2 == 0, case
