"""What a user can ask of a training beside stopping and going on."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from eeg2fmri_dist.config.train import OptimizationConfig
from eeg2fmri_dist.training.distributed.engine import make_schedule
from tests.helpers.rank_processes import run_ranks
from tests.helpers.stores import make_store
from tests.helpers.tiny_trainings import CAE, TRANSFORMER, command, losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


def test_early_stopping_ends_a_run_whose_score_does_not_rise(folder):
    options = ["optimization.patience=2", "optimization.learning_rate=1e-12"]
    run_ranks(command(folder, "early", CAE, *options), 1)
    assert len(losses(folder / "early")) < 12
    best = (folder / "early" / "checkpoints" / "best").read_text()
    summary = json.loads((folder / "early" / "finished.json").read_text())
    assert int(best.split("-")[1]) < summary["steps"]
    assert "up to date" in run_ranks(command(folder, "early", CAE, *options), 1)


def test_the_moving_average_is_saved_and_follows_the_trained_weights(folder):
    """Each checkpoint's model is the average before it, moved toward its trained weights."""
    decay = 0.3
    options = [
        f"optimization.ema_decay={decay}",
        "optimization.epochs=3",
        "checkpoints.every_steps=1",
        "checkpoints.keep=50",
    ]
    run_ranks(command(folder, "averaged", CAE, *options), 2)
    checkpoints = sorted((folder / "averaged" / "checkpoints").glob("step-*"))
    assert len(checkpoints) == 6
    models = [load_file(path / "model.safetensors") for path in checkpoints]
    for step, (path, before, after) in enumerate(zip(checkpoints[1:], models, models[1:]), 2):  # noqa: B905
        kept = min(decay, (1 + step) / (10 + step))
        for name, weight in trained_weights(path).items():
            expected = kept * before[name] + (1 - kept) * weight
            torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", [1, pytest.param(3, marks=pytest.mark.faults)])
def test_a_loss_scale_that_overflows_at_the_start_is_lowered(folder, stage):
    """The scale of fp16 starts far too high; more than 5 skipped steps would end the run."""
    options = ["engine.precision=fp16", f"engine.zero_stage={stage}", "optimization.epochs=4"]
    run_ranks(command(folder, f"scaled-{stage}", TRANSFORMER, *options), 2)
    curve = losses(folder / f"scaled-{stage}")
    assert curve[-1][2] < curve[0][2]


def trained_weights(checkpoint):
    weights = {}
    for path in checkpoint.glob("training-*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                if key.endswith(".weight") and f"{key.removesuffix('.weight')}.exp_avg" != key:
                    name = key.removesuffix(".weight").removeprefix("model.")
                    weights[name] = file.get_tensor(key)
    return weights


@pytest.mark.parametrize("model", [CAE, pytest.param(TRANSFORMER, marks=pytest.mark.faults)])
def test_channels_last_recomputation_and_fused_adam_change_nothing_but_rounding(folder, model):
    options = [
        "engine.activation_checkpointing=true",
        "engine.channels_last=true",
        "engine.fused_adam=true",
        "data.cache=device",
    ]
    names = f"plain-{model[0]}", f"tuned-{model[0]}"
    run_ranks(command(folder, names[0], model, "optimization.epochs=3"), 1)
    run_ranks(command(folder, names[1], model, "optimization.epochs=3", *options), 1)
    for ours, theirs in zip(losses(folder / names[0]), losses(folder / names[1]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"),
    [("constant", 1.0, 1.0), ("linear", 0.55, 0.1), ("cosine", 0.55, 0.1)],
)
def test_learning_rates_warm_up_and_go_down_as_asked_for(schedule, halfway, end):
    config = OptimizationConfig(
        schedule=schedule, warmup_fraction=0.1, final_fraction=0.1, learning_rate=1.0
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make_schedule(optimizer, config, total_steps=100)
    rates = []
    for _ in range(101):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[55] == pytest.approx(halfway)
    assert rates[100] == pytest.approx(end)
    if schedule != "constant":
        assert rates[0] == pytest.approx(0.1)
        assert rates[9] == pytest.approx(1.0)
