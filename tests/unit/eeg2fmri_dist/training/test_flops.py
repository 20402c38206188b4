"""Operations of a training step against counts by hand."""

import math

import pytest
import torch
from torch import nn

from eeg2fmri_dist.config.model import CaeConfig, PrincipalComponentsConfig, TransformerConfig
from eeg2fmri_dist.inference.objectives import Objective, make_objective
from eeg2fmri_dist.models.attention import Attention
from eeg2fmri_dist.models.build import DataSizes, build_model
from eeg2fmri_dist.training.flops import (
    PeakRate,
    count_step_flops,
    flop_utilization,
    measure_peak_flops,
)

WINDOWS = 3


class SumOf(Objective):
    """Objective of any layers: the sum of what they give."""

    def error(self, batch):
        return self.model(batch["x"]).sum()


def count(model, *shape, windows=WINDOWS):
    return count_step_flops(SumOf(model, None), {"x": torch.zeros(windows, *shape)})


def test_linear_layers():
    flops = count(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)), 5)
    first, second = 2 * 5 * 7, 2 * 7 * 2
    assert flops.forward == first + second
    assert flops.backward == first + 2 * second  # the input needs no gradient
    assert flops.by_module == {"model.0": 2 * first, "model.2": 3 * second}
    assert flops.total == flops.forward + flops.backward


def test_frozen_layer_has_no_gradient_of_its_weights():
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
    model[1].requires_grad_(False)
    flops = count(model, 5)
    assert flops.by_module == {"model.0": 2 * 2 * 5 * 7, "model.1": 2 * 2 * 7 * 2}


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution(stride):
    model = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Conv3d(4, 6, 3, stride=stride, padding=1))
    flops = count(model, 1, 8, 6, 4)
    outputs = math.prod(-(-side // stride) for side in (8, 6, 4))
    assert flops.by_module["model.1"] == 3 * 2 * outputs * 27 * 4 * 6
    assert flops.by_module["model.0"] == 2 * 2 * 8 * 6 * 4 * 4


def test_transposed_convolution():
    model = nn.Sequential(nn.Conv3d(1, 4, 1), nn.ConvTranspose3d(4, 6, 2, stride=2))
    flops = count(model, 1, 4, 3, 2)
    assert flops.by_module["model.1"] == 3 * 2 * (4 * 3 * 2) * 8 * 4 * 6


class SelfAttention(nn.Module):
    def __init__(self, with_bias):
        super().__init__()
        self.attention, self.with_bias = Attention(8, 2), with_bias

    def forward(self, x):
        bias = torch.zeros(2, x.shape[1], x.shape[1], device=x.device)
        keys_values = self.attention.keys_values(x)
        if self.with_bias:
            return self.attention(x, *keys_values, bias)
        queries = self.attention._split_heads(self.attention.query(x))
        return nn.functional.scaled_dot_product_attention(queries, *keys_values)


@pytest.mark.parametrize("with_bias", [True, False])
def test_attention(with_bias):
    model = nn.Sequential(nn.Linear(8, 8), SelfAttention(with_bias))
    flops = count(model, 5, 8).by_module
    products = 2 * (2 * 5 * 5 * 8)  # scores and their use, over all heads
    owner = "model.1.attention" if with_bias else "model.1"
    assert flops[owner] == 3 * products
    assert flops["model.1.attention.query"] == 3 * 2 * 5 * 8 * 8


def transformer(**options):
    sizes = DataSizes((8, 8, 4), num_channels=3, num_frequencies=4, context=2, tr_s=2.0)
    config = TransformerConfig(d_model=16, num_heads=2, layers=1, **options)
    model = build_model(config, PrincipalComponentsConfig(d_token=6), sizes)
    return make_objective(model, torch.ones(8, 8, 4, dtype=torch.bool))


def transformer_batch(device="cpu"):
    return {
        "eeg": torch.zeros(2, 7, 3, 4, device=device),
        "tokens": torch.zeros(2, 5, 6, device=device),
    }


def test_inputs_without_gradient_do_not_take_what_comes_after_them():
    # The backward pass never leaves `token_in` through its input, which needs no gradient.
    flops = count_step_flops(transformer(hrf_front_end=False), transformer_batch()).by_module
    assert flops["model.eeg_to_tokens.token_in"] == 2 * (2 * 5 * 6 * 16)
    assert flops["model.eeg_to_tokens.encoder.0.feed_forward.0"] == 3 * (2 * 7 * 16 * 64)
    assert flops["model.eeg_to_tokens.eeg_in.linear"] == 2 * (2 * 7 * 12 * (16 + 6))


def test_meta_batch_counts_as_a_real_one():
    objective = transformer()
    real = count_step_flops(objective, transformer_batch())
    assert count_step_flops(objective, transformer_batch("meta")) == real
    assert sum(real.by_module.values()) == real.total


def test_counting_leaves_the_model_and_random_numbers_alone():
    objective = transformer().eval()
    before = torch.get_rng_state()
    count_step_flops(objective, transformer_batch())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in objective.parameters())
    assert not objective.training
    assert not objective.model._forward_hooks
    assert objective.mask is not None


def test_cae_costs_twice_per_batch_and_the_same_per_window():
    config = CaeConfig(d_token=4, widths=(8, 16), patch=(2, 2, 2))
    objective = make_objective(build_model(config, None, DataSizes((8, 8, 4), 1, 1, 0, 2.0)), None)
    counts = [
        count_step_flops(objective, {"bold": torch.zeros(windows, 1, 8, 8, 4)})
        for windows in (1, 2)
    ]
    assert counts[0] == counts[1]
    cells = 4 * 4 * 2
    assert counts[0].by_module["model.encoder.1.conv"] == 3 * 2 * cells * 27 * 8 * 8


def test_peak_is_one_of_our_kernels_and_utilization_a_share_of_it():
    before = torch.get_rng_state()
    peak = measure_peak_flops(torch.device("cpu"), torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert peak.flops_per_s > 1e6
    assert "matrix product" in peak.kernel or "conv3d" in peak.kernel
    assert flop_utilization(30.0, 2.0, PeakRate(60.0, "")) == 0.25
