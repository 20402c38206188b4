"""Numbers that every rank must know of every other before it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def several_ranks() -> bool:
    """True where there is somebody to agree with."""
    return dist.is_initialized() and dist.get_world_size() > 1


def share_with_all(numbers: Sequence[float]) -> np.ndarray:
    """Return the numbers of all ranks, shape (rank, number), in one collective call."""
    own = torch.tensor([numbers], dtype=torch.float64)
    if not several_ranks():
        return own.numpy()
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    everyone = torch.empty(dist.get_world_size(), len(numbers), dtype=torch.float64, device=device)
    dist.all_gather_into_tensor(everyone, own.to(device))
    return everyone.cpu().numpy()


def share_objects(value: Any) -> list[Any]:
    """Return the values of all ranks, in order of rank (collective)."""
    if not several_ranks():
        return [value]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def from_first(value: Any) -> Any:
    """Return the value of rank 0 on all ranks (collective)."""
    if not several_ranks():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def wait_for_all() -> None:
    """Go on when all ranks have come here."""
    if several_ranks():
        dist.barrier()


def add_up(tensors: Iterable[torch.Tensor]) -> None:
    """Replace each tensor by its sum over all ranks (collective)."""
    if several_ranks():
        for tensor in tensors:
            dist.all_reduce(tensor)
