"""Settings that change nothing are refused or said, never passed over."""

import pytest

from eeg2fmri_dist.config import load_config, to_yaml
from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from tests.helpers.repository import ROOT

TRAIN = ROOT / "configs" / "train"
BIDS = ROOT / "configs" / "preprocess" / "bids.yaml"


@pytest.mark.parametrize(
    ("model", "override", "key"),
    [
        ("ridge", "engine.zero_stage=2", "engine.zero_stage"),
        ("ridge", "optimisation.epochs=7", "optimisation.epochs"),
        ("unet", "optimisation.loss=volume", "optimisation.loss"),
        ("transformer", "optimisation.loss_volumes=3", "optimisation.loss_volumes"),
        ("transformer", "optimisation.start_margin=2", "optimisation.start_margin"),
        ("unet", "data={normalise: global, detrend_order: 1}", "data.detrend_order"),
    ],
)
def test_what_a_shared_file_may_say_is_warned_of(model, override, key, caplog):
    load_config(TrainConfig, TRAIN / f"{model}.yaml", ["store=s", f"output=o/{key}", override])
    assert f"{key!r} has no effect here: it counts for" in caplog.text


@pytest.mark.parametrize(
    ("schema", "path", "override", "key"),
    [
        (TrainConfig, TRAIN / "cae.yaml", "split.folds=4", "split.folds"),
        (TrainConfig, TRAIN / "cae.yaml", "split.test_subject=32", "split.test_subject"),
        (PreprocessConfig, BIDS, "source.eeg=export", "source.eeg"),
    ],
)
def test_what_nobody_can_mean_is_refused(schema, path, override, key):
    with pytest.raises(ConfigError, match="has no effect here") as caught:
        load_config(schema, path, ["output=o", override])
    assert key in str(caught.value)
    assert caught.value.where == f"override {key}"


def test_a_default_that_is_written_down_is_no_setting(tmp_path, caplog):
    config = load_config(TrainConfig, TRAIN / "ridge.yaml", ["store=s"])
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(config))
    assert load_config(TrainConfig, path) == config
    assert "no effect" not in caplog.text


SHIPPED = [
    (schema, path)
    for schema, folder in (
        (TrainConfig, "train"),
        (PreprocessConfig, "preprocess"),
        (SweepConfig, "sweep"),
    )
    for path in sorted((ROOT / "configs" / folder).rglob("*.yaml"))
]


@pytest.mark.parametrize(("schema", "path"), SHIPPED, ids=lambda given: getattr(given, "stem", ""))
def test_no_config_of_the_repository_has_such_a_setting(schema, path, caplog):
    load_config(schema, path)
    assert not caplog.records
