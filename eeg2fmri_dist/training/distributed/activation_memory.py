"""Changes to a model that trade time for memory, or memory layout for time."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eeg2fmri_dist.models.attention import DecoderLayer, EncoderLayer
from eeg2fmri_dist.models.blocks import ResidualBlock

_BLOCKS = (ResidualBlock, EncoderLayer, DecoderLayer)


def checkpoint_activations(module: nn.Module) -> None:
    """Keep only the inputs of each block for the backward pass and compute the rest again.

    Dropout is drawn the same way in both computations, so that gradients do not change.
    """
    for block in module.modules():
        if isinstance(block, _BLOCKS):
            block.forward = functools.partial(_recomputed, block.forward)  # type: ignore[method-assign]


def use_channels_last(module: nn.Module) -> None:
    """Give each convolution its input with the channel as the last axis in memory.

    Weights stay as they are: DeepSpeed flattens them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.register_forward_pre_hook(_to_channels_last)


def _recomputed(forward, *inputs):
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)


def _to_channels_last(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous(memory_format=torch.channels_last_3d) for x in inputs)
