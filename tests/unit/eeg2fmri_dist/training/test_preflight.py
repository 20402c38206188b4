"""What the preflight makes of the facts that ranks state; tests/slurm runs it on two nodes."""

from dataclasses import replace

import pytest

from eeg2fmri_dist.training.planning.preflight import Facts, describe, find_problems

GIB = 2**30


def sound(rank):
    return Facts(
        rank=rank,
        host=f"n{rank // 2 + 1}",
        device="NVIDIA H100",
        device_works=True,
        clock_s=1000.0 + 0.01 * rank,
        versions={"torch": "2.13.0", "python": "3.11.7"},
        store="ab12",
        store_error="",
        sees_first=True,
        write_error="",
        free_bytes=10 * GIB,
    )


def with_rank_5(**changes):
    facts = [sound(rank) for rank in range(6)]
    facts[5] = replace(facts[5], **changes)
    return facts


def test_sound_ranks_have_no_problem():
    facts = with_rank_5()
    assert find_problems(facts, GIB) == []
    assert "6 rank(s) on n1 (2), n2 (2), n3 (2)" in describe(facts, 12.5)[0]
    assert "6 x NVIDIA H100" in describe(facts, 12.5)[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device": "no device: 2 ranks, 1 GPU", "device_works": False}, "no device"),
        ({"clock_s": 1060.0}, "its clock is +60 s off"),
        ({"versions": {"torch": "2.6.0", "python": "3.11.7"}}, "torch is 2.6.0, elsewhere 2.13.0"),
        ({"versions": {"torch": "2.13.0"}}, "python is missing, elsewhere 3.11.7"),
        ({"store": "cd34"}, "the store is cd34, elsewhere ab12"),
        ({"store": "", "store_error": "no such file"}, "cannot read the store (no such file)"),
        ({"sees_first": False}, "not shared"),
        ({"write_error": "Read-only file system"}, "Read-only file system"),
        ({"free_bytes": GIB // 2}, "0.5 GiB free"),
        ({"sum_error": "all-reduce gave 3, not 4"}, "all-reduce gave 3"),
        ({"device": "CPU"}, "computes on CPU, elsewhere GPU"),
    ],
)
def test_the_node_that_differs_is_named(changes, problem):
    (found,) = find_problems(with_rank_5(**changes), GIB)
    assert problem in found
    assert "n3" in found
