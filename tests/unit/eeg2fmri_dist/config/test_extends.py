"""Config files made of other config files."""

import pytest

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from tests.helpers.repository import ROOT


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_the_child_wins_over_its_parent(write):
    write("parent.yaml", "source: {name: noddi, path: a}\noutput: s.h5\n")
    child = write("child.yaml", "extends: parent.yaml\nsource: {path: b}\n")
    config = load_config(PreprocessConfig, child)
    assert (config.source.name, str(config.source.path)) == ("noddi", "b")


def test_of_several_parents_later_ones_win_and_own_keys_win_over_all(write):
    write("model/unet.yaml", "model: {name: unet, d_eeg: 8}\ndata: {window: 8}\noutput: u\n")
    write("data/lab.yaml", "store: lab.h5\ndata: {window: 9, context: 3}\noutput: l\n")
    both = write(
        "train/both.yaml", "extends: [../model/unet.yaml, ../data/lab.yaml]\noutput: both\n"
    )
    config = load_config(TrainConfig, both)
    assert (config.model.d_eeg, config.data.window, config.data.context) == (8, 9, 3)
    assert (str(config.store), str(config.output)) == ("lab.h5", "both")


def test_a_file_that_two_parents_extend_does_not_undo_the_first(write):
    write("base.yaml", "store: s\noutput: o\nmodel: {name: cae}\ndata: {window: 1, stride: 1}\n")
    write("one.yaml", "extends: base.yaml\ndata: {window: 5}\n")
    write("two.yaml", "extends: base.yaml\ndata: {stride: 6}\n")
    config = load_config(TrainConfig, write("child.yaml", "extends: [one.yaml, two.yaml]\n"))
    assert (config.data.window, config.data.stride) == (5, 6)


def test_a_circle_is_refused_with_its_chain(write):
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "extends: [a.yaml]\n")
    start = write("start.yaml", "extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml -> \S*b\.yaml -> \S*a\.yaml") as caught:
        load_config(TrainConfig, start)
    assert "start.yaml" not in str(caught.value)


@pytest.mark.parametrize("extends", ["5", "[a.yaml, 5]", "{a: b}"])
def test_what_is_no_name_is_refused(write, extends):
    path = write("config.yaml", f"extends: {extends}\n")
    with pytest.raises(ConfigError, match="extends names one config file, or a list"):
        load_config(TrainConfig, path)


def test_a_parent_that_is_missing_is_named(write):
    path = write("config.yaml", "extends: nowhere.yaml\n")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read"):
        load_config(TrainConfig, path)


def test_errors_name_the_file_in_which_the_key_stands(write):
    parent = write("parent.yaml", "store: s\noutput: o\nmodel: {name: cae, widht: [8]}\n")
    child = write("child.yaml", "extends: parent.yaml\ndata: {window: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, child)
    assert caught.value.where == str(parent)
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, child, ["data.window=0"])
    assert f"did you mean 'model.widths'? ({parent})" in str(caught.value)
    assert "(override data.window)" in str(caught.value)


def test_the_shipped_example_joins_a_model_and_the_data_of_a_lab():
    config = load_config(TrainConfig, ROOT / "configs" / "train" / "lab" / "unet.yaml")
    model = load_config(TrainConfig, ROOT / "configs" / "train" / "unet.yaml")
    assert config.model == model.model
    assert config.optimization == model.optimization
    assert config.store != model.store
