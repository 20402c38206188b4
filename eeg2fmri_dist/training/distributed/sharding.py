"""Parameters that ZeRO 3 has cut into one part per rank: parts and wholes.

DeepSpeed marks such a parameter with `ds_tensor`, this rank's part: the flattened parameter, padded
to a multiple of the world size and cut into equal pieces. The padding may hold any number.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_sharded(parameter: nn.Parameter) -> bool:
    """True where a rank holds only a part of a parameter."""
    return hasattr(parameter, "ds_tensor")


def held_part(parameter: nn.Parameter) -> Tensor:
    """Return what this rank holds of a parameter: its part, or all of it."""
    return parameter.ds_tensor if is_sharded(parameter) else parameter.data  # type: ignore[attr-defined]


def own_part(parameter: nn.Parameter) -> Tensor:
    """Return what this rank holds of a parameter without the padding; it may be empty."""
    held = held_part(parameter)
    if not is_sharded(parameter):
        return held
    remaining = parameter.ds_numel - held.numel() * dist.get_rank()  # type: ignore[attr-defined]
    return held[: max(0, remaining)]


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter that may be cut into parts."""
    return parameter.ds_shape if is_sharded(parameter) else parameter.shape  # type: ignore[attr-defined]


def local_part(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """Cut this rank's part out of a whole tensor of the parameter's shape."""
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    padded = torch.zeros(size * dist.get_world_size(), dtype=whole.dtype, device=whole.device)
    padded[: whole.numel()] = whole.flatten()
    return padded[size * dist.get_rank() :][:size]


def gather_whole(parameter: nn.Parameter, part: Tensor) -> Tensor:
    """Join the parts of all ranks into a tensor of the parameter's shape (collective)."""
    joined = part.new_empty(part.numel() * dist.get_world_size())
    dist.all_gather_into_tensor(joined, part.contiguous().flatten())
    return joined[: parameter.ds_numel].view(parameter.ds_shape)  # type: ignore[attr-defined]
