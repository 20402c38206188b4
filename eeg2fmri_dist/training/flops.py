"""Floating-point operations of a training step, and how many a device can do in a second."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from eeg2fmri_dist.inference.objectives import Batch, Objective

_OUTSIDE = "outside modules"
_SECONDS_PER_RUN = 0.01  # sizes follow from the rate so far: right for a laptop and for a GPU
_RUNS = 3
_SIDES = (128, 256, 512, 1024, 2048, 4096, 8192)
_CONVOLUTIONS = ((32, (16, 16, 10)), (64, (8, 8, 5)), (192, (4, 4, 3)))  # levels of the CAE
_LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations (two per multiply-add) of a training step, per window.

    Attributes
    ----------
    forward, backward : float
        Of matrix products, convolutions and attention; the rest is not counted.
    by_module : dict
        Forward and backward together, by name of the module that computes them.
    """

    forward: float
    backward: float
    by_module: dict[str, float]

    @property
    def total(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


@dataclass(frozen=True)
class PeakRate:
    """Highest rate that this process reached on its device.

    Attributes
    ----------
    flops_per_s : float
        Floating-point operations per second.
    kernel : str
        What reached it.
    """

    flops_per_s: float
    kernel: str


@dataclass(frozen=True)
class _Kernel:
    """Something to time."""

    name: str
    flops: float
    run: Callable[[], Tensor]


def count_step_flops(objective: Objective, batch: Batch) -> StepFlops:
    """Count the operations of a forward and backward pass of any objective.

    Computes on a copy without storage (meta device): takes a fraction of a second whatever the
    size, leaves gradients and random numbers alone, and counts attention the same way on every
    device (torch does not count its fused kernel for CPUs). Call it before the objective is
    wrapped by an engine. Recomputation by activation checkpointing is not model work and must not
    be on.

    Parameters
    ----------
    objective : Objective
        Trainable parameters as in training.
    batch : dict of Tensor
        What the objective reads, on any device, the meta device included; only shapes matter.

    Returns
    -------
    StepFlops
        Of one window: those of the batch divided by its windows.
    """
    windows = len(next(iter(batch.values())))
    shapes = {name: tensor.to("meta") for name, tensor in batch.items()}
    ledger = _Ledger(copy_without_storage(objective, torch.device("meta")))
    with torch.random.fork_rng(devices=[]), ledger.open():
        loss = ledger.module(shapes, 1.0)
        forward = ledger.total()
        loss.backward()
        total = ledger.total()
    by_module = {name: flops / windows for name, flops in ledger.charged.items() if flops}
    return StepFlops(forward / windows, (total - forward) / windows, by_module)


def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> PeakRate:
    """Measure the highest rate of this process on its device, in a fraction of a second.

    The best of square matrix products and of 3x3x3 convolutions as in our models, contiguous and
    channels-last: on CPUs some convolutions are faster than large matrix products, so neither
    alone is a valid peak.

    Parameters
    ----------
    device : torch.device
        With as many threads as training will have.
    dtype : torch.dtype
        What matrix products and convolutions compute in.
    """
    best = PeakRate(0.0, "")
    with torch.no_grad():
        for side in _SIDES:
            if 2.0 * side**3 > 10 * _SECONDS_PER_RUN * best.flops_per_s > 0:
                break
            kernel = _matrix_product(side, device, dtype)
            best = max(best, _rate(kernel, device), key=lambda peak: peak.flops_per_s)
        like = torch.empty(0, device=device, dtype=dtype)
        for (width, grid), layout in itertools.product(_CONVOLUTIONS, _LAYOUTS):
            flops = _SECONDS_PER_RUN * best.flops_per_s
            kernel = _convolution(width, grid, flops, layout, like)
            best = max(best, _rate(kernel, device), key=lambda peak: peak.flops_per_s)
    return best


def flop_utilization(flops: float, seconds: float, peak: PeakRate) -> float:
    """Return the share of the peak rate at which `flops` were done."""
    return flops / max(seconds, 1e-12) / peak.flops_per_s


def copy_without_storage(objective: Objective, device: torch.device) -> Objective:
    """Copy a module, in training mode, without its numbers.

    Parameters
    ----------
    objective : Objective
        Any device.
    device : torch.device
        The meta device, or any other inside a `FakeTensorMode`.
    """

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    known: dict[int, object] = {
        id(p): nn.Parameter(empty(p), requires_grad=p.requires_grad) for p in objective.parameters()
    }
    known |= {id(buffer): empty(buffer) for buffer in objective.buffers()}
    return copy.deepcopy(objective, known).train()


class _Ledger:
    """Charges each operation of a module tree to the innermost module that computes it.

    In the forward pass that is the module being called. In the backward pass it is the module in
    whose call the autograd node was made: nodes are found behind a module's outputs. (torch's own
    tracker never leaves a module whose input needs no gradient.)
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.charged: Counter[str] = Counter()
        self._counter = FlopCounterMode(
            display=False,
            custom_mapping={torch.ops.aten.convolution_backward: _conv_backward_flops},
        )
        self._calls = [_OUTSIDE]
        self._current, self._paid = _OUTSIDE, 0
        self._owned: set[Node] = set()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Count what happens inside."""
        for name, module in self.module.named_modules():
            module.register_forward_pre_hook(functools.partial(self._enter, name or _OUTSIDE))
            module.register_forward_hook(self._leave)
        with self._counter:
            yield
        self._switch(_OUTSIDE)

    def total(self) -> int:
        """Operations so far."""
        return self._counter.get_total_flops()

    def _switch(self, name: str) -> None:
        total = self.total()
        self.charged[self._current] += total - self._paid
        self._current, self._paid = name, total

    def _enter(self, name: str, _module: nn.Module, _inputs: tuple) -> None:
        self._calls.append(name)
        self._switch(name)

    def _leave(self, _module: nn.Module, inputs: tuple, outputs: object) -> None:
        name = self._calls.pop()
        for node in _nodes_between(inputs, outputs):
            if node not in self._owned:
                self._owned.add(node)
                node.register_prehook(lambda _gradients, name=name: self._switch(name))
        self._switch(self._calls[-1])


def _nodes_between(inputs: object, outputs: object) -> Iterator[Node]:
    """Autograd nodes that lead from a module's inputs to its outputs."""
    seen = {tensor.grad_fn for tensor in _tensors(inputs)}
    pending = [tensor.grad_fn for tensor in _tensors(outputs)]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            pending += [earlier for earlier, _ in node.next_functions]


def _tensors(nested: object) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, dict | list | tuple):
        for item in nested.values() if isinstance(nested, dict) else nested:
            yield from _tensors(item)


def _conv_backward_flops(
    grad_out_shape, x_shape, w_shape, _bias, _stride, _padding, _dilation, transposed, *rest, **_
) -> int:
    """Each of the two gradients costs what the forward pass did.

    torch's own formula counts the positions of the input instead of those of the output for the
    gradient of the weights: eight times too many where a 3-D convolution has stride 2.
    """
    wanted = rest[2]  # after output_padding and groups: input, weight, bias
    return (wanted[0] + wanted[1]) * conv_flop_count(x_shape, w_shape, grad_out_shape, transposed)


def _matrix_product(side: int, device: torch.device, dtype: torch.dtype) -> _Kernel:
    matrix = _fill(torch.empty(side, side, device=device, dtype=dtype))
    return _Kernel(f"{side} x {side} matrix product", 2.0 * side**3, lambda: matrix @ matrix)


def _convolution(
    width: int, grid: tuple[int, int, int], flops: float, layout: torch.memory_format, like: Tensor
) -> _Kernel:
    """3x3x3 convolution of as many volumes as make about `flops` operations."""
    per_volume = 2.0 * 27 * width**2 * math.prod(grid)
    volumes = max(1, round(flops / per_volume))
    x = _fill(like.new_empty(volumes, width, *grid)).to(memory_format=layout)
    weight = _fill(like.new_empty(width, width, 3, 3, 3)).to(memory_format=layout)
    name = f"{width} -> {width} conv3d, {volumes} volumes of {grid}, {layout}"
    return _Kernel(name, volumes * per_volume, lambda: F.conv3d(x, weight, padding=1))


def _fill(tensor: Tensor) -> Tensor:
    """Random numbers (equal ones make a GPU faster), not those that training draws from."""
    return tensor.normal_(generator=torch.Generator(tensor.device))


def _rate(kernel: _Kernel, device: torch.device) -> PeakRate:
    """Rate of the shortest of a few runs; the first, which may set things up, does not count."""
    _timed(kernel.run, device)
    shortest = min(_timed(kernel.run, device) for _ in range(_RUNS))
    return PeakRate(kernel.flops / shortest, kernel.name)


def _timed(run: Callable[[], Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
