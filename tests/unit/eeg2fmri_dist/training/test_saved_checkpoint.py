"""A checkpoint that is given to a model of another shape says in what they differ."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.training.checkpoint import SavedCheckpoint


class Network(nn.Module):
    """An objective: a model with one trained layer and a frozen one."""

    def __init__(self, width, *, bias=True):
        super().__init__()
        self.model = nn.ModuleDict(
            {"layer": nn.Linear(4, width, bias=bias), "frozen": nn.Linear(2, 2)}
        )
        self.model["frozen"].requires_grad_(False)


def save(folder, network, *, averaged=False, change=lambda tensors: None):
    """Write what a training of one rank saves of a network."""
    folder.mkdir()
    trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    kinds = ("exp_avg", "exp_avg_sq", "weight") if averaged else ("exp_avg", "exp_avg_sq")
    tensors = {f"{n}.{kind}": p.clone() for n, p in trained.items() for kind in kinds}
    change(tensors)
    save_file(tensors, folder / "training-00000-of-00001.safetensors")
    save_file(dict(network.model.state_dict()), folder / "model.safetensors")
    keys = ("step", "sampler", "progress", "adam_steps", "schedule", "loss_scaler")
    state = dict.fromkeys(keys, 0) | {"averaged": averaged}
    (folder / "state.json").write_text(json.dumps(state))
    return SavedCheckpoint(folder)


@pytest.mark.parametrize("averaged", [False, True])
def test_weights_that_fit_are_loaded(tmp_path, averaged):
    saved, network = Network(8), Network(8)
    save(tmp_path / "c", saved, averaged=averaged).load_weights(network)
    assert torch.equal(network.model["layer"].weight, saved.model["layer"].weight)


@pytest.mark.parametrize("averaged", [False, True])
def test_another_shape_is_named_and_nothing_is_loaded(tmp_path, averaged):
    network = Network(6)
    before = network.model["layer"].weight.clone()
    with pytest.raises(CheckpointError) as caught:
        save(tmp_path / "c", Network(8), averaged=averaged).load_weights(network)
    message = str(caught.value)
    assert "layer.weight is (8, 4) there, (6, 4) here" in message
    assert str(tmp_path / "c") in message
    assert "What to do" in message
    assert torch.equal(network.model["layer"].weight, before)


def test_a_parameter_that_the_checkpoint_lacks_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"it has no layer\.bias"):
        save(tmp_path / "c", Network(8, bias=False)).load_weights(Network(8))


def test_moments_of_another_shape_or_none_are_named(tmp_path):
    def shrink(tensors):
        tensors["model.layer.bias.exp_avg"] = torch.zeros(3)

    def drop(tensors):
        del tensors["model.layer.bias.exp_avg_sq"]

    with pytest.raises(CheckpointError, match=r"bias\.exp_avg is \(3,\) there, \(8,\) here"):
        save(tmp_path / "a", Network(8), change=shrink).load_weights(Network(8))
    with pytest.raises(CheckpointError, match=r"it has no model\.layer\.bias\.exp_avg_sq"):
        save(tmp_path / "b", Network(8), change=drop).load_weights(Network(8))
