"""A trained model in its file, and the EEG of a recording that it is given."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.store import Store
from tests.helpers.models import UNET, save_untrained
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(make_store(tmp_path_factory.mktemp("store") / "s.h5"))


@pytest.fixture(scope="module")
def weights(store, tmp_path_factory):
    """File of an untrained U-Net."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_untrained(path, store, UNET)
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


def path_as_space(tensors, card):
    card["space"] = "../../../home/x"


def no_time(tensors, card):
    card["tr_s"] = 0


def flat_affine(tensors, card):
    card["affine"] = [1, 2, 3]


def scaling_of_another_grid(tensors, card):
    tensors["scaling.reference"] = torch.zeros(2, 2, 2)


def no_text(tensors, card):
    card["channel_names"] = None


def more_than_fits_into_memory(tensors, card):
    card["model"]["d_eeg"] = 10**9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (path_as_space, "its space is called '../../../home/x'"),
        (no_time, "its TR is 0 s"),
        (flat_affine, "its affine is not a finite 4 x 4 matrix"),
        (scaling_of_another_grid, r"scaling.reference is \(2, 2, 2\)"),
        (no_text, "not a model of this suite"),
        (more_than_fits_into_memory, "do not fit"),
        (other_width, r"do not fit.*\(8, .*\) there, \(4, .*\) here"),
        (tensor_of_another_shape, r"bias is \(3,\) there, \(\d+,\) here"),
        (more_channels, r"scaling.eeg_mean is \(6, 30\), its card says \(7, 30\)"),
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
