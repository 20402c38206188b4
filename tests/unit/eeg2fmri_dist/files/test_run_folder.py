"""The run folder: whose run it is, and what a damaged one is said to be."""

import pytest
import yaml

from eeg2fmri_dist.config.model import CaeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.files.run_folder import (
    check_folder,
    check_run,
    claim_run,
    read_skipped,
    read_summary,
)


def make_config(tmp_path, **changes):
    values = {"store": tmp_path / "store.h5", "output": tmp_path / "run", "model": CaeConfig()}
    return TrainConfig.model_validate(values | changes)


@pytest.fixture
def claimed(tmp_path):
    config = make_config(tmp_path)
    claim_run(config, {"store": "a"})
    return config


def test_the_same_store_may_be_written_in_another_way(claimed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_run(make_config(tmp_path, store="store.h5"), {"store": "a"})


def test_a_store_that_changed_under_its_name_is_refused(claimed):
    with pytest.raises(DataError, match="made from another store"):
        check_run(claimed, {"store": "b"})


def test_how_a_run_is_done_may_change_what_it_is_may_not(claimed, tmp_path):
    for section in ({"zero_stage": 3}, {"compile": True}, {"gradient_accumulation": 2}):
        check_run(make_config(tmp_path, engine=section), {"store": "a"})
    check_run(make_config(tmp_path, monitor={"every_steps": 3}), {"store": "a"})
    with pytest.raises(ConfigError, match=r"engine\.precision: 'auto' there, 'fp16' now"):
        check_run(make_config(tmp_path, engine={"precision": "fp16"}), {"store": "a"})


def test_a_run_from_before_a_key_existed_has_its_default(claimed):
    path = claimed.output / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["monitor"]
    path.write_text(yaml.safe_dump(stored))
    check_run(claimed, {"store": "a"})


def test_a_folder_without_a_run_is_free(tmp_path):
    check_folder(make_config(tmp_path), {"store": "a"})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_run_is_not(claimed):
    with pytest.raises(DataError, match="made from another store"):
        check_folder(claimed, {"store": "b"})


def read_whole_folder(config):
    check_run(config, {"store": "a"})
    read_summary(config.output)
    read_skipped(config.output)


@pytest.mark.parametrize("name", ["provenance.json", "finished.json", "skipped_batches.json"])
def test_a_damaged_file_of_the_folder_is_named(claimed, name):
    (claimed.output / name).write_text("{")
    with pytest.raises(DataError, match=name):
        read_whole_folder(claimed)


def test_a_damaged_config_of_the_folder_is_named(claimed):
    (claimed.output / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        check_run(claimed, {"store": "a"})
