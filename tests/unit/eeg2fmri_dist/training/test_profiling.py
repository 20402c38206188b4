"""The trace of a few steps, as TensorBoard's plug-in and Perfetto read it."""

import json

import pytest
import torch
from torch import nn

from eeg2fmri_dist.config.monitor import ProfileConfig
from eeg2fmri_dist.training.monitoring.profiling import StepProfiler

CPU = torch.device("cpu")


def run_steps(folder, window, first, last, rank=0):
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(16, 3))
    profiler = StepProfiler(folder, window, rank, CPU)
    profiler.start(first - 1)
    for step in range(first, last + 1):
        model(torch.zeros(1, 1, 4, 4, 4)).sum().backward()
        profiler.step(step)
    profiler.close()


def read_trace(folder):
    (path,) = folder.glob("*.pt.trace.json")
    return path.name, json.loads(path.read_text())["traceEvents"]


def count(events, name):
    return sum(event.get("name") == name for event in events)


@pytest.mark.parametrize("start_step", [1, 2, 4])
def test_trace_holds_the_operations_of_the_chosen_steps(tmp_path, start_step):
    run_steps(tmp_path, ProfileConfig(start_step=start_step, steps=2), 1, 8)
    name, events = read_trace(tmp_path)
    assert name == f"rank-0.step-{start_step}.pt.trace.json"
    assert count(events, "aten::conv3d") == 2  # one per step, the warm-up left out
    assert count(events, "aten::addmm") == 2
    assert any("conv" in event.get("name", "").lower() for event in events)
    assert any("backward" in event.get("name", "").lower() for event in events)
    assert all("ts" in event for event in events if event.get("ph") == "X")
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing half-written


def test_resume_inside_the_window_profiles_the_rest(tmp_path):
    run_steps(tmp_path, ProfileConfig(start_step=3, steps=4), 5, 9)
    name, events = read_trace(tmp_path)
    assert name == "rank-0.step-5.pt.trace.json"
    assert count(events, "aten::conv3d") == 2


def test_window_cut_short_by_the_end_is_written_as_far_as_it_goes(tmp_path):
    run_steps(tmp_path, ProfileConfig(start_step=3, steps=50), 1, 5)
    assert count(read_trace(tmp_path)[1], "aten::conv3d") == 3


@pytest.mark.parametrize(
    ("window", "first", "rank"),
    [(None, 1, 0), (ProfileConfig(start_step=2), 1, 1), (ProfileConfig(start_step=2), 5, 0)],
    ids=["not asked for", "another rank", "resumed after it"],
)
def test_otherwise_nothing_is_profiled(tmp_path, window, first, rank):
    run_steps(tmp_path / "profile", window, first, first + 4, rank)
    assert not (tmp_path / "profile").exists()
