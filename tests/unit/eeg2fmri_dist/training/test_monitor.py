"""What a run shows of itself, read back as TensorBoard and a person would read it."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eeg2fmri_dist.config.monitor import MonitorConfig
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.flops import PeakRate
from eeg2fmri_dist.training.monitoring.monitor import Monitor, read_log
from eeg2fmri_dist.training.validation import Example
from tests.helpers.repository import ROOT

STEPS_PER_EPOCH = 8
CPU = torch.device("cpu")


def make_monitor(folder, rank=0, world_size=1, every_steps=3, pictures=True, **options):
    return Monitor(
        folder,
        MonitorConfig(every_steps=every_steps, pictures=pictures),
        Ranks(rank, world_size, rank, world_size, "alone"),
        CPU,
        total_steps=24,
        total_epochs=3,
        **options,
    )


def loss_at(step):
    return 1.0 / step


def train(monitor, first, last, session=0):
    """Do steps first..last, an epoch ends every eight; `session` marks who wrote a score."""
    monitor.start(first - 1)
    for step in range(first, last + 1):
        monitor.note_data(4, 0.0)
        monitor.training_step(step, loss_at(step), 1e-3, 2.0, own_loss=step)
        if step % STEPS_PER_EPOCH == 0:
            scores = {"train/loss_epoch": 0.5, "train/loss": 0.6}  # names that a validation gives
            scores |= {"validation/r_region": 0.1 * session}
            monitor.epoch(step // STEPS_PER_EPOCH, step, scores)


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def steps_of(folder, tag):
    return [event.step for event in read_events(folder).Scalars(tag)]


def read_rank_log(folder, rank=0):
    text = (folder / "logs" / f"rank-{rank}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("saved_step", [0, 8, 13])
def test_resumed_run_shows_each_step_once(tmp_path, saved_step):
    first = make_monitor(tmp_path)
    train(first, 1, 19, session=1)
    first.close()  # cut off after step 19; the newest checkpoint is older
    second = make_monitor(tmp_path)
    train(second, saved_step + 1, 24, session=2)
    second.close()
    events = read_events(tmp_path)
    assert steps_of(tmp_path, "train/loss_step") == list(range(1, 25))
    losses = {event.step: event.value for event in events.Scalars("train/loss_step")}
    assert losses == pytest.approx({step: loss_at(step) for step in range(1, 25)})
    for tag in events.Tags()["scalars"]:
        assert max(Counter(steps_of(tmp_path, tag)).values()) == 1, tag
    assert steps_of(tmp_path, "validation/r_region") == [8, 16, 24]
    written_by = [round(e.value * 10) for e in events.Scalars("validation/r_region")]
    assert written_by == [1 if step <= saved_step else 2 for step in (8, 16, 24)]


@pytest.mark.parametrize("saved_step", [0, 8, 13])
def test_logs_continue_where_the_checkpoint_was(tmp_path, saved_step):
    first = make_monitor(tmp_path)
    train(first, 1, 19)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # killed while writing
    with (tmp_path / "logs" / "rank-0.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    second = make_monitor(tmp_path)
    train(second, saved_step + 1, 24)
    for monitor in (first, second):
        monitor.close()
    assert [record["epoch"] for record in read_log(tmp_path)] == [1, 2, 3]
    records = read_rank_log(tmp_path)
    assert [record["step"] for record in records] == [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    done = sum(record["steps"] for record in records)
    assert done == (23 if saved_step == 13 else 24)  # 13 lies inside an interval that began anew


def test_logs_of_ranks_that_are_gone_are_cut_too(tmp_path):
    for rank in (0, 1):
        monitor = make_monitor(tmp_path, rank, world_size=2)
        train(monitor, 1, 16)
        monitor.close()
    alone = make_monitor(tmp_path)
    alone.start(8)
    alone.close()
    assert [record["step"] for record in read_rank_log(tmp_path, 1)] == [3, 6, 8]
    assert [record["step"] for record in read_rank_log(tmp_path, 0)] == [3, 6, 8]


def test_only_the_first_rank_writes_events_and_epochs(tmp_path):
    monitor = make_monitor(tmp_path, rank=1, world_size=2)
    train(monitor, 1, 8)
    monitor.pictures(8, example(np.zeros((4, 4, 4)), np.zeros((4, 4, 4))))
    monitor.hparams({}, {})
    monitor.close()
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_each_rank_records_its_own_numbers(tmp_path):
    monitor = make_monitor(tmp_path, rank=1, world_size=2)
    train(monitor, 1, 3)
    monitor.close()
    (record,) = read_rank_log(tmp_path, 1)
    assert record["loss"] == 2.0  # mean of the own losses 1, 2, 3
    assert record["windows"] == 12
    assert 0 <= record["data_wait_s"] <= record["step_s"]
    assert record["rss_peak_bytes"] >= record["rss_bytes"] > 1e6


class Clock:
    """Stands for the seconds of `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_speed_waiting_and_utilization_leave_validation_out(tmp_path, monkeypatch):
    from eeg2fmri_dist.training.monitoring import monitor as module

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monitor = make_monitor(
        tmp_path, world_size=2, every_steps=2, flops_per_window=30.0, peak=PeakRate(100.0, "")
    )
    monitor.start(0)
    for step in (1, 2):
        clock.now += 50  # validation, saving
        clock.now += 1  # reading
        monitor.note_data(6, 1.0)
        clock.now += 3  # computing
        monitor.training_step(step, 1.0, 1e-3, math.nan)
    monitor.close()
    events = read_events(tmp_path)
    values = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert values["throughput/step_s"] == 4
    assert values["throughput/windows_per_s"] == 2 * 12 / 8
    assert values["throughput/data_wait_fraction"] == 0.25
    assert values["throughput/flop_utilization"] == pytest.approx(30 * 12 / 8 / 100)
    assert values["memory/rss_gib"] > 0.01
    assert "train/gradient_norm" not in values  # it was not finite


def test_log_file_gets_a_line_per_interval_and_epoch(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="eeg2fmri_dist")
    monitor = make_monitor(tmp_path)
    train(monitor, 1, 8)
    monitor.close()
    lines = [record.message for record in caplog.records]
    assert [line.split()[1] for line in lines if line.startswith("step")] == [
        "3/24",
        "6/24",
    ]
    assert sum(line.startswith("epoch 1/3") for line in lines) == 1
    assert all("left" in line for line in lines)
    assert not any("\r" in line for line in lines)


def test_terminal_gets_a_bar_with_the_time_left(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="eeg2fmri_dist")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monitor = make_monitor(tmp_path)
    train(monitor, 1, 7)
    (task,) = monitor._progress.tasks
    assert (task.completed, task.total) == (7, 24)
    monitor.close()
    assert not caplog.records  # no line per interval beside the bar


def test_hparams_and_their_metrics_are_in_the_run_itself(tmp_path):
    monitor = make_monitor(tmp_path)
    train(monitor, 1, 8)
    config = {"model": {"name": "cae", "widths": [8, 16]}, "optimization": {"seed": 3}}
    monitor.hparams(config, {"validation/r_region": 0.1, "train/loss_epoch": 0.5})
    monitor.close()
    metadata = read_events(tmp_path).summary_metadata
    content = metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.name" in content
    assert b"optimization.seed" in content
    assert b"validation/r_region" in metadata["_hparams_/experiment"].plugin_data.content
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "logs"]


def test_slices_of_three_planes_show_truth_beside_prediction(tmp_path):
    shape = (6, 10, 4)
    truth = np.arange(np.prod(shape), dtype=float).reshape(shape)
    monitor = make_monitor(tmp_path)
    monitor.start(0)
    monitor.pictures(5, example(truth, np.zeros(shape)))
    monitor.close()
    events = read_events(tmp_path)
    sizes = {"axial": (6, 10), "coronal": (6, 4), "sagittal": (10, 4)}  # width, height of one
    assert set(events.Tags()["images"]) > {f"slices/{plane}" for plane in sizes}
    for plane, (width, height) in sizes.items():
        (image,) = events.Images(f"slices/{plane}")
        assert (image.step, image.width, image.height) == (5, 2 * width + 2, height)
        gray = decode(image.encoded_image_string)
        assert gray[:, :width].std() > 0
        assert np.all(gray[:, width : width + 2] == 255)
        assert np.all(gray[:, -width:] == 0)
    axial = decode(events.Images("slices/axial")[0].encoded_image_string)
    expected = truth[:, :, 2].T[::-1]  # anterior up, the subject's left on the left
    assert np.all(np.diff(axial[:, :6].astype(int), axis=1) >= 0)
    assert axial[0, 0] > axial[-1, 0]
    assert np.argmax(axial[:, :6]) == np.argmax(expected.clip(*np.percentile(truth, [1, 99])))


def example(true, predicted):
    series = np.random.default_rng(0).standard_normal((2, 20, 6))
    names = tuple(f"Region {number}" for number in range(1, 7))
    return Example(true, predicted, *(1000 + series), names, 2.0)


def test_regional_curves_and_matrices_are_shown(tmp_path):
    monitor = make_monitor(tmp_path)
    monitor.start(0)
    shown = example(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)))
    monitor.pictures(5, shown)
    # A model that collapsed to one image: nothing correlates with anything.
    still = np.full_like(shown.true_regions, 1000.0)
    monitor.pictures(9, replace(shown, predicted_regions=still))
    monitor.close()
    events = read_events(tmp_path)
    assert {"regions/curves", "regions/correlation"} < set(events.Tags()["images"])
    first, second = (
        decode(image.encoded_image_string, "RGB") for image in events.Images("regions/correlation")
    )
    side = 6 * 4
    assert first.shape == (side, 3 * side + 2 * 8, 3)
    truth = np.corrcoef(shown.true_regions.T)
    cells = first[2::4, 2:side:4].astype(float)
    # Red where positive (less blue), blue where negative (less red).
    found = (cells[..., 0] - cells[..., 2]) / np.where(truth > 0, 178 - 43, 172 - 33)
    np.testing.assert_allclose(found, truth, atol=0.02)
    assert (second[:, :side] == first[:, :side]).all()
    off_diagonal = second[2, side + 8 + 6 : 2 * side + 8]
    assert (off_diagonal == 255).all()
    curves = decode(events.Images("regions/curves")[0].encoded_image_string, "RGB")
    assert curves.shape[1] == 700
    assert len(np.unique(curves.reshape(-1, 3), axis=0)) > 50


def decode(png, mode="L"):
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert(mode))


def test_no_step_before_a_flush_is_lost_by_kill_9(tmp_path):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from tests.unit.eeg2fmri_dist.training.test_monitor import make_monitor
        monitor = make_monitor(Path({str(tmp_path)!r}))
        monitor.start(0)
        for step in range(1, 12):
            monitor.training_step(step, 1.0 / step, 1e-3, 1.0)
            if step == 10:
                monitor.flush()  # a checkpoint is saved
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    (events_file,) = tmp_path.glob("events.out.tfevents.*")
    with events_file.open("ab") as file:
        file.write(b"\x18\x00\x00")  # the last record was being written
    monitor = make_monitor(tmp_path)
    monitor.start(10)
    for step in range(11, 14):
        monitor.training_step(step, loss_at(step), 1e-3, 1.0)
    monitor.close()
    assert steps_of(tmp_path, "train/loss_step") == list(range(1, 14))


def test_pictures_can_be_left_out(tmp_path):
    monitor = make_monitor(tmp_path, pictures=False)
    monitor.start(0)
    monitor.pictures(5, example(np.zeros((4, 4, 4)), np.zeros((4, 4, 4))))
    monitor.close()
    assert read_events(tmp_path).Tags()["images"] == []
