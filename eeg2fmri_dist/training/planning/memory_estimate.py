"""Memory of one rank in training, worked out without allocating it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eeg2fmri_dist.inference.objectives import Batch, Objective
from eeg2fmri_dist.training.flops import copy_without_storage

_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
Update = Literal["foreach", "loop", "fused"]
Saving = Literal["elsewhere", "between", "beside"]
_BYTES = 4  # weights, gradients and Adam's moments are fp32 in every precision


@dataclass(frozen=True)
class MicroBatchMemory:
    """What a forward and backward pass holds at its worst moment, in bytes.

    Attributes
    ----------
    peak : int
        Batch, activations, temporaries and gradients together.
    peak_gradients_twice : int
        The same where each gradient is copied into a buffer as soon as it is there.
    activations : int
        Batch, activations and temporaries alone.
    """

    peak: int
    peak_gradients_twice: int
    activations: int


@dataclass(frozen=True)
class ModelBytes:
    """Sizes of a model, in bytes.

    Attributes
    ----------
    trained, largest : int
        All trained parameters; the largest of them.
    frozen : int
        Other parameters, and buffers.
    """

    trained: int
    largest: int
    frozen: int


@dataclass(frozen=True)
class RankMemory:
    """Memory of one rank at the worst moment of a step, in bytes.

    Attributes
    ----------
    weights : int
        Those trained (under ZeRO 3 gathered for a step, besides), frozen ones and the fp32
        partition that ZeRO keeps.
    copies : int
        The copy that is scored and saved; the moving average.
    moments : int
        Adam's.
    step : int
        Activations, gradients, buffers of the reduction or of the update, or the copy that a
        checkpoint is written from: the worst moment.
    """

    weights: int
    copies: int
    moments: int
    step: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.copies + self.moments + self.step


def measure_model(objective: Objective) -> ModelBytes:
    """Add up a model's parameters and buffers; it may be on the meta device."""
    trained = [p.numel() * _BYTES for p in objective.parameters() if p.requires_grad]
    frozen = [p for p in objective.parameters() if not p.requires_grad] + list(objective.buffers())
    return ModelBytes(sum(trained), max(trained), sum(t.numel() * t.element_size() for t in frozen))


def simulate_micro_batches(
    objective: Objective,
    batch: Batch,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    micro_batches: int = 1,
    prepare: Callable[[nn.Module], None] | None = None,
) -> MicroBatchMemory:
    """Run forward and backward passes on tensors without storage; follow what is alive.

    Counts every tensor from the operation that makes it to the moment its last user is gone, so
    that recomputation, autocast's casts and the overlap of activations with gradients are in, and
    the copies in oneDNN's own layout that a convolution on a CPU makes of what it reads and
    writes. What other kernels and the allocator keep for themselves is not.

    Parameters
    ----------
    objective : Objective
        Any device, the meta device included; not wrapped by an engine.
    batch : dict of Tensor
        One micro-batch; only shapes matter.
    device : torch.device
        Where training will be; decides which kernels are used.
    autocast : torch.dtype or None
        Lower precision of matrix products and convolutions.
    micro_batches : int
        Gradients are accumulated over so many.
    prepare : callable or None
        Changes the model as the engine will, such as by activation checkpointing.
    """
    with FakeTensorMode():
        model = copy_without_storage(objective, device)
        if prepare is not None:
            prepare(model)
        alive = _AliveBytes(model)
        with torch.random.fork_rng(devices=[]), alive:
            for _ in range(min(2, micro_batches)):
                inputs = {
                    name: torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    for name, tensor in batch.items()
                }
                with _autocast(device, autocast):
                    loss = model(inputs, 1.0)
                loss.backward()
                del loss, inputs
    return MicroBatchMemory(alive.peak, alive.peak_gradients_twice, alive.peak_activations)


def estimate_rank_memory(
    model: ModelBytes,
    micro_batch: MicroBatchMemory,
    *,
    zero_stage: int,
    world_size: int,
    averaged: bool,
    update: Update,
    saving: Saving,
) -> RankMemory:
    """Put together what one rank holds, as DeepSpeed lays it out.

    Parameters
    ----------
    model : ModelBytes
        Of the objective.
    micro_batch : MicroBatchMemory
        Of this rank's share of a batch.
    zero_stage, world_size : int
        What is cut into how many parts. Without ZeRO gradients are reduced in one flat copy; ZeRO
        copies each into a buffer as it comes, and keeps an fp32 partition of the weights.
    averaged : bool
        Whether a moving average of the weights is kept.
    update : str
        How Adam computes: its temporaries are as large as all that a rank updates (``foreach``,
        the default on a GPU), twice the largest tensor (``loop``, on a CPU) or none (``fused``).
    saving : str
        Where the first rank's copy for a checkpoint counts: ``elsewhere`` (GPU), in this memory
        ``between`` steps, or ``beside`` them (asynchronous).
    """
    all_of, part = model.trained, model.trained // world_size
    held = part if zero_stage == 3 else all_of
    copies = all_of + model.frozen + (held if averaged else 0)
    saved = all_of + model.frozen + (3 if averaged else 2) * part
    if zero_stage == 0:
        temporaries = {"foreach": all_of, "loop": 2 * model.largest, "fused": 0}[update]
        weights, moments = all_of + model.frozen, 2 * all_of
        step = max(micro_batch.peak, all_of + max(all_of, temporaries))
    else:
        temporaries = {"foreach": part, "loop": 2 * part, "fused": 0}[update]
        weights, moments = held + part + model.frozen, 2 * part
        step = max(micro_batch.peak_gradients_twice, 2 * all_of, part + temporaries)
        if zero_stage == 3:
            step += all_of + part  # gathered weights, and this rank's part of the gradients
    step = {"elsewhere": step, "between": max(step, saved), "beside": step + saved}[saving]
    return RankMemory(weights, copies, moments, step)


class _AliveBytes(TorchDispatchMode):
    """Follows the bytes of tensors made while it is on, by their storage."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.alive = self.gradients = 0
        self.peak = self.peak_gradients_twice = self.peak_activations = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        for parameter in model.parameters():
            self._known.add(parameter.untyped_storage())
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._note_gradient)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        if function.overloadpacket in _CONVOLUTIONS and args[0].device.type == "cpu":
            other = result if isinstance(result, Tensor) else args[1]  # backward: the input
            self._note_peaks(workspace=_reordered_bytes(args[0]) + _reordered_bytes(other))
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._forget, size)
        self.alive += size
        self._note_peaks()

    def _forget(self, size: int) -> None:
        self.alive -= size

    def _note_gradient(self, parameter: Tensor) -> None:
        if not hasattr(parameter, "_seen"):
            parameter._seen = True  # type: ignore[attr-defined]
            self.gradients += parameter.numel() * _BYTES
            self._note_peaks()

    def _note_peaks(self, workspace: int = 0) -> None:
        alive = self.alive + workspace
        self.peak = max(self.peak, alive)
        self.peak_gradients_twice = max(self.peak_gradients_twice, alive + self.gradients)
        self.peak_activations = max(self.peak_activations, alive - self.gradients)


def _reordered_bytes(x: Tensor) -> int:
    """Bytes of the copy that oneDNN makes; none of what has channels last."""
    return x.numel() * x.element_size() if x.is_contiguous() else 0


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
