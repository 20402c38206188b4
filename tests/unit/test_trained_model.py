"""A trained model in its file, and the EEG of a recording that it is given."""

import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stores import CHANNELS, make_store

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import CheckpointError, DataError
from eeg2fmri_dist.export import load_model, save_model
from eeg2fmri_dist.models.build import build_model
from eeg2fmri_dist.normalise import fit_scaling
from eeg2fmri_dist.predict import order_channels, predict_bold
from eeg2fmri_dist.splits import make_split
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.model import make_card, store_sizes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(make_store(tmp_path_factory.mktemp("store") / "s.h5"))


@pytest.fixture(scope="module")
def weights(store, tmp_path_factory):
    """File of an untrained U-Net."""
    config = TrainConfig.model_validate(
        {
            "store": store.path,
            "output": "unused",
            "model": {"name": "unet", "widths": [8, 16], "d_eeg": 8},
            "data": {"window": 16, "context": 4},
        }
    )
    torch.manual_seed(0)
    model = build_model(config.model, None, store_sizes(store, config.data.context))
    split = make_split(store.recordings, config.split)
    scaling = fit_scaling(store, split.train, config.data)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    card = make_card(config, store, split, None)
    save_model(path, model.state_dict(), card, scaling, store.layout.mask)
    return path


@pytest.fixture(scope="module")
def trained(weights):
    return load_model(weights)


def rewritten(weights, folder, change):
    """Write a model file again, its tensors and card changed in place."""
    tensors = load_file(weights)
    with safe_open(weights, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    change(tensors, card)
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"card": json.dumps(card)})
    return path


def other_width(tensors, card):
    card["model"]["d_eeg"] = 4


def tensor_of_another_shape(tensors, card):
    name = next(name for name in tensors if name.endswith("bias"))
    tensors[name] = torch.zeros(3)


def more_channels(tensors, card):
    card["channel_names"].append("Oz")


def lost_tensor(tensors, card):
    del tensors[next(name for name in tensors if name.endswith("bias"))]


def another_tensor(tensors, card):
    tensors["decoder.gate"] = torch.zeros(3)


def no_mask(tensors, card):
    del tensors["mask"]


def no_scaling(tensors, card):
    del tensors["scaling.reference"]


def unknown_architecture(tensors, card):
    card["model"]["name"] = "vit"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_width, r"do not fit.*\(8, .*\) there, \(4, .*\) here"),
        (tensor_of_another_shape, r"bias is \(3,\) there, \(\d+,\) here"),
        (more_channels, r"is \(.*\) there, \(.*\) here"),
        (lost_tensor, r"it has no \S+bias"),
        (another_tensor, r"the model has no decoder\.gate"),
        (no_mask, "it has no 'mask'"),
        (no_scaling, "it has no 'scaling.reference'"),
        (unknown_architecture, "'vit'"),
    ],
)
def test_a_model_file_that_does_not_fit_its_card_is_refused(weights, tmp_path, change, message):
    path = rewritten(weights, tmp_path, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "state_dict" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("not a model")
    with pytest.raises(CheckpointError, match="not a model of this suite"):
        load_model(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="it has no 'card'"):
        load_model(path)


@pytest.mark.parametrize("preprocessing", [{}, {"eeg": {"window": 2}}, {"eeg": None}])
def test_a_model_that_does_not_say_how_its_eeg_was_made_is_refused(trained, preprocessing):
    untold = replace(trained, card=replace(trained.card, preprocessing=preprocessing))
    with pytest.raises(CheckpointError, match="does not say how its EEG was preprocessed"):
        _ = untold.eeg


@settings(max_examples=20, deadline=None)
@given(order=st.permutations((*CHANNELS, "ECG", "Oz")))
def test_channels_are_found_by_name_wherever_they_stand(trained, order):
    power = np.random.default_rng(0).random((3, len(order), 2))
    ordered = order_channels(power, tuple(order), trained, "recording")
    for position, name in enumerate(CHANNELS):
        assert (ordered[:, position] == power[:, order.index(name)]).all()


def test_another_order_of_channels_gives_the_same_prediction(trained, store):
    power = store.eeg(0, 40)
    backwards = order_channels(power[:, ::-1], CHANNELS[::-1], trained, "recording")
    np.testing.assert_array_equal(predict_bold(trained, backwards), predict_bold(trained, power))


def test_another_spelling_is_resolved_and_said(trained, caplog):
    power = np.random.default_rng(0).random((3, 6, 2))
    with caplog.at_level(logging.INFO, "eeg2fmri_dist"):
        ordered = order_channels(power, ("FP1", "fp2", *CHANNELS[2:]), trained, "rec.vhdr")
    np.testing.assert_array_equal(ordered, power)
    assert "rec.vhdr: channels taken by another spelling: FP1 as Fp1, fp2 as Fp2" in caplog.text


def test_names_of_the_old_10_20_system_are_resolved(trained):
    temporal = replace(trained, card=replace(trained.card, channel_names=["T7", "P8", "T10"]))
    power = np.random.default_rng(0).random((3, 3, 2))
    ordered = order_channels(power, ("T6", "T10", "T3"), temporal, "recording")
    np.testing.assert_array_equal(ordered, power[:, [2, 0, 1]])
    with pytest.raises(DataError, match=r"1 of the 3 channels .* missing: T10; .* T1, T3, T6"):
        order_channels(power, ("T1", "T3", "T6"), temporal, "recording")


def test_a_spelling_that_two_channels_have_is_not_guessed(trained):
    names = ("FP1", "fp1", *CHANNELS[1:])
    with pytest.raises(DataError, match=r"1 of the 6 channels .* missing: Fp1"):
        order_channels(np.zeros((3, 7, 2)), names, trained, "recording")


@pytest.mark.parametrize("names", [CHANNELS[:-1], ("EEG 001", *CHANNELS[1:]), ()])
def test_missing_and_unknown_channels_are_named(trained, names):
    missing = [name for name in CHANNELS if name not in names]
    with pytest.raises(DataError) as caught:
        order_channels(np.zeros((3, len(names), 2)), names, trained, "rec.vhdr")
    message = str(caught.value)
    assert message.startswith("rec.vhdr: ")
    assert f"missing: {', '.join(missing)};" in message
    assert re.search(r"the recording has .*\n  What to do: ", message)
    assert all(name in message for name in names)
