"""Settings that change nothing are refused or warned of."""

import pytest

from eeg2fmri_dist.config import load_config, load_resolved, to_yaml, train
from eeg2fmri_dist.config.names.tree import all_keys
from eeg2fmri_dist.config.reading import loading
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from tests.helpers.repository import ROOT
from tests.unit.eeg2fmri_dist.config.test_loading import CONFIGS, SCHEMAS, SHIPPED

RIDGE, UNET = "train/ridge.yaml", "train/unet.yaml"
TRANSFORMER, NODDI = "train/transformer.yaml", "preprocess/noddi.yaml"
BIDS, LOSO = "preprocess/bids.yaml", "sweep/loso.yaml"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    loading._say_once.cache_clear()
    for name in loading._RANKS:
        monkeypatch.delenv(name, raising=False)


def load(name, *overrides):
    schema = SCHEMAS[name.partition("/")[0]]
    return load_config(schema, ROOT / "configs" / name, overrides)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_shipped_configs_set_nothing_in_vain(path, caplog):
    load_config(SCHEMAS[path.relative_to(CONFIGS).parts[0]], path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "overrides", "key", "counts_for"),
    [
        (RIDGE, ["optimization.loss=volume"], "optimization.loss", "model.name: transformer"),
        (UNET, ["optimization.loss_volumes=3"], "optimization.loss_volumes", "transformer"),
        (
            UNET,
            ["optimization.min_improvement_se=2"],
            "optimization.min_improvement_se",
            "model.skip_from",
        ),
        (UNET, ["split.folds=4"], "split.folds", "split.name: k_fold"),
        (UNET, ["split.test_subject=32"], "split.test_subject", "leave_one_subject_out"),
        (BIDS, ["source.eeg=export"], "source.eeg", "source.name: noddi"),
        (NODDI, ["source.eeg_files=a/*.edf"], "source.eeg_files", "source.name: bids"),
        (LOSO, ["folds.folds=5"], "folds.folds", "folds.name: k_fold"),
        (LOSO, ["sampler.name=grid"], "sampler.name", "a search"),
    ],
)
def test_mistakes_are_refused(name, overrides, key, counts_for):
    with pytest.raises(ConfigError) as caught:
        load(name, *overrides)
    assert f"'{key}' has no effect here: it counts for" in str(caught.value)
    assert counts_for in str(caught.value)
    assert caught.value.where == f"override {key}"


def of_split(kind, *more):
    return [f"split.name={kind}", *more]


@pytest.mark.parametrize(
    ("name", "overrides", "keys"),
    [
        (RIDGE, ["engine.zero_stage=2"], ["engine.zero_stage"]),
        (RIDGE, ["optimization.epochs=3", "data.cache=ram"], ["optimization.epochs", "data.cache"]),
        ("train/ensemble.yaml", ["data.stride=4", "watchdog.rewinds=1"], ["data.stride"]),
        ("train/ensemble.yaml", ["deepspeed={a: 1}"], ["deepspeed"]),
        (TRANSFORMER, ["optimization.loss_volumes=3"], ["optimization.loss_volumes"]),
        (TRANSFORMER, ["optimization.min_improvement_se=2"], ["optimization.min_improvement_se"]),
        (
            UNET,
            ["optimization.schedule=constant", "optimization.warmup_fraction=0.3"],
            ["optimization.warmup_fraction"],
        ),
        (
            UNET,
            of_split("leave_one_subject_out", "split.test_subject=32", "split.folds=4"),
            ["split.folds"],
        ),
        (UNET, of_split("by_sample", "split.seed=1"), ["split.seed"]),
        (NODDI, ["cluster.job_workers=3"], ["cluster.job_workers"]),
        (NODDI, ["cluster.interface=ib0"], ["cluster.interface"]),
        (
            NODDI,
            ["eeg.pulse_artifact.remove=false", "eeg.pulse_artifact.components=3"],
            ["eeg.pulse_artifact.components"],
        ),
        ("sweep/demo.yaml", ["sampler.name=random", "sampler.startup_trials=3"], ["sampler.st"]),
        ("sweep/demo.yaml", ["cluster=local", "resources.partition=gpu"], ["resources.partition"]),
        ("sweep/demo.yaml", ["resources.gpu_memory_gib=8"], ["resources.gpu_memory_gib"]),
        ("simulate/demo.yaml", ["artifacts.head_motion=0.1"], ["artifacts.head_motion"]),
        ("simulate/demo.yaml", ['stale_header="99"'], ["stale_header"]),
    ],
)
def test_what_a_shared_file_may_set_is_warned_of_in_one_line(name, overrides, keys, caplog):
    load(name, *overrides)
    load(name, *overrides)
    (record,) = caplog.records
    assert "has no effect here: it counts for" in record.getMessage()
    for key in keys:
        assert key in record.getMessage()


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (RIDGE, ["optimization.checkpoint_metric=loss", "optimization.validation_windows=2"]),
        (RIDGE, ["engine.zero_stage=1", "optimization.loss=latent"]),  # the defaults
        (UNET, of_split("k_fold", "split.folds=4", "split.fold=1", "split.seed=3")),
        (TRANSFORMER, ["optimization.loss=volume", "optimization.loss_volumes=3"]),
        ("train/transformer_from_ridge.yaml", ["optimization.min_improvement_se=2"]),
        (NODDI, ["source.eeg=raw", "cluster.memory_gib=4"]),
        ("sweep/demo.yaml", ["resources.gpus_per_node=1", "resources.gpu_memory_gib=8"]),
    ],
)
def test_what_has_an_effect_is_let_through_without_a_word(name, overrides, caplog):
    load(name, *overrides)
    assert not caplog.records


def test_a_resolved_config_says_no_more_than_the_files_that_it_came_from(tmp_path, caplog):
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(load(RIDGE)))
    load_config(TrainConfig, path)
    assert not caplog.records


def test_run_folders_that_an_earlier_version_let_through_can_be_read(tmp_path, caplog):
    text = to_yaml(load(UNET)).replace("loss: latent", "loss: volume")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert load_resolved(TrainConfig, path).optimization.loss == "volume"
    assert not caplog.records


def test_the_rules_of_training_name_keys_that_are_there():
    """One that names another would never fire."""
    keys = all_keys(TrainConfig)
    for name in (*train._OF_STEPS, *train._OF_VALIDATION):
        assert name.removesuffix(".") in keys
