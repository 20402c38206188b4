"""What `--dry-run` says of a training against the training itself."""

import json
from pathlib import Path

import pytest

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.files.run_folder import claim_run
from eeg2fmri_dist.training.planning.plan import TrainingPlan, plan_training
from tests.helpers.rank_processes import run_ranks
from tests.helpers.stores import make_store

CAE = {
    "model": {"name": "cae", "d_token": 8, "widths": [64], "patch": [2, 2, 2]},
    "data": {"window": 1, "stride": 1, "context": 0},
    "optimization": {"epochs": 1, "batch_size": 16, "checkpoint_metric": "loss"},
}
TRANSFORMER = {
    "model": {"name": "transformer", "d_model": 8, "num_heads": 2, "layers": 1},
    "tokenizer": {"name": "principal_components", "d_token": 8},
    "data": {"window": 16, "stride": 2, "context": 4},
    "optimization": {"epochs": 1, "batch_size": 5},
}
LARGE = {
    "cae": CAE | {"model": CAE["model"] | {"d_token": 2048}},
    "transformer": TRANSFORMER | {"model": TRANSFORMER["model"] | {"d_model": 640, "layers": 4}},
}
SMALL = {"cae": CAE, "transformer": TRANSFORMER}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("plan") / "store.h5", n_subjects=4, n_volumes=24)


def estimate_and_measure(config, world_size, zero_stage):
    """Bytes of a rank by plan, and the highest of the processes that trained."""
    plan = TrainingPlan(TrainConfig.model_validate(config))
    output = run_ranks(
        ["tests/distributed/train_and_report_memory.py", json.dumps(config)], world_size
    )
    peaks = [int(line.split()[1]) for line in output.splitlines() if line.startswith("PEAK")]
    assert len(peaks) == world_size
    return plan.rank_bytes(zero_stage, world_size), max(peaks)


@pytest.mark.parametrize(
    ("kind", "world_size", "zero_stage"),
    [
        pytest.param("transformer", 1, 0, marks=pytest.mark.faults),
        pytest.param("cae", 1, 0, marks=pytest.mark.faults),
        pytest.param("cae", 2, 3, marks=pytest.mark.faults),
    ],
)
def test_memory_that_is_planned_is_the_memory_that_is_used(
    store, tmp_path, kind, world_size, zero_stage
):
    """Libraries and data cancel in the difference of a large and a tiny model."""
    differences = []
    for name, case in (("large", LARGE[kind]), ("small", SMALL[kind])):
        config = case | {
            "store": str(store),
            "output": str(tmp_path / name),
            "engine": {"zero_stage": zero_stage, "precision": "fp32"},
        }
        differences.append(estimate_and_measure(config, world_size, zero_stage))
    (large, large_peak), (small, small_peak) = differences
    assert large - small == pytest.approx(large_peak - small_peak, rel=0.15)


@pytest.mark.parametrize("kind", ["cae", "transformer"])
def test_plan_tells_sizes_and_time_and_writes_nothing(store, tmp_path, kind):
    before = sorted(Path(store).parent.iterdir())
    config = SMALL[kind] | {"store": str(store), "output": str(tmp_path / "run")}
    text = "\n".join(plan_training(TrainConfig.model_validate(config)))
    for wanted in ("trained parameters", "FLOP per window", "stage 3", "checkpoint", "per epoch"):
        assert wanted in text
    assert "s per step of 1 rank(s)" in text
    assert not (tmp_path / "run").exists()
    assert sorted(Path(store).parent.iterdir()) == before


def test_plan_refuses_a_tokenizer_that_is_no_cae(store, tmp_path):
    unet = {"store": str(store), "output": str(tmp_path / "unet"), "model": {"name": "unet"}}
    claim_run(TrainConfig.model_validate(unet), {})
    config = unet | {"model": {"name": "transformer"}, "tokenizer": str(tmp_path / "unet")}
    with pytest.raises(CheckpointError, match="its model is unet, here it is cae"):
        TrainingPlan(TrainConfig.model_validate(config))


def test_plan_says_where_it_cannot_measure(store, tmp_path, monkeypatch):
    from eeg2fmri_dist.training.planning import plan

    monkeypatch.setattr(plan, "free_memory", lambda device: 1024)
    config = CAE | {"store": str(store), "output": str(tmp_path / "run")}
    text = "\n".join(plan_training(TrainConfig.model_validate(config)))
    assert "not measured" in text
    assert "compute node" in text
