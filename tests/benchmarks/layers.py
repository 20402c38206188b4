"""Where the time of a training step goes, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eeg2fmri_dist.training.distributed.allocator import keep_freed_memory
from eeg2fmri_dist.training.distributed.deepspeed_config import effective_precision
from tests.benchmarks.measuring import Measurement, seconds
from tests.benchmarks.trainings import default_config, make_noddi_objective, random_batch

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv3d, nn.ConvTranspose3d)
_ROUNDS = 5
_SHOWN = 8


@dataclass
class _Alone:
    """A layer by itself: calls in a step and time of forward and backward."""

    name: str
    calls: int
    shape: tuple[int, ...]
    gflop: float
    time_s: float


def cae() -> Measurement:
    """CAE step of two windows of 16 TRs."""
    return _share_of_layers("cae", windows=2, overrides=["data.window=16"])


def transformer() -> Measurement:
    """Transformer step on cached tokens, 16 windows of 32 TRs."""
    return _share_of_layers("transformer", windows=16, overrides=[])


def _share_of_layers(model: str, windows: int, overrides: list[str]) -> Measurement:
    """Compare a whole step with the sum of its linear and convolution layers alone, at their best.

    The operations are the same on both sides, so the ratio of times is the share of the best rate
    on these layers that the step reaches.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    config = default_config(model, *overrides)
    objective = make_noddi_objective(config)
    batch = random_batch(objective, config, windows)
    autocast = effective_precision(config.engine) == "bf16"

    def context() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=autocast)

    def step() -> None:
        objective.zero_grad()
        with context():
            loss = objective(batch, 1.0)
        loss.backward()

    layers = [_time_alone(*call, context) for call in _calls(objective, batch)]
    step()
    whole = min(seconds(step) for _ in range(_ROUNDS))
    alone = sum(layer.time_s for layer in layers)
    ranked = sorted(layers, key=lambda layer: -layer.time_s)
    notes = [
        f"step {whole * 1e3:.0f} ms, its layers alone {alone * 1e3:.0f} ms; the rest is "
        "normalization, activations, attention, copies and the loss",
        f"{'layer':<34} {'calls':>5} {'GFLOP':>7} {'ms':>7} {'GFLOP/s':>8}",
    ]
    notes += [
        f"{layer.name:<34} {layer.calls:>5} {layer.gflop:>7.2f} {layer.time_s * 1e3:>7.1f} "
        f"{layer.gflop / layer.time_s:>8.0f}"
        for layer in ranked[:_SHOWN]
    ]
    return Measurement(
        value=alone / whole,
        unit="of the best rate",
        against="the same layers alone",
        target=">= 0.7",
        notes=notes,
    )


def _calls(objective: nn.Module, batch: dict[str, Tensor]) -> list[tuple[str, nn.Module, Tensor]]:
    """Run once; return (name, layer, input) of every call of a layer with weights that train.

    An input asks for a gradient where it did in the run.
    """
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given = inputs[0].detach().requires_grad_(inputs[0].requires_grad)
            seen.append((name, layer, given))

        return note

    handles = [
        layer.register_forward_pre_hook(hook(name.removeprefix("model.")))
        for name, layer in objective.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    objective(batch, 1.0)
    for handle in handles:
        handle.remove()
    return seen


def _time_alone(
    name: str, layer: nn.Module, x: Tensor, context: Callable[[], torch.autocast]
) -> _Alone:
    """Best time of a layer's forward and backward, contiguous or channels-last."""
    times = []
    for memory_format in _formats(x):
        given = x.detach().contiguous(memory_format=memory_format).requires_grad_(x.requires_grad)
        with context():
            gradient = torch.randn_like(layer(given))

        def run(given: Tensor = given, gradient: Tensor = gradient) -> None:
            with context():
                y = layer(given)
            y.backward(gradient)

        run()
        times.append(min(seconds(run) for _ in range(_ROUNDS)))
    layer.zero_grad()
    passes = 3 if x.requires_grad else 2
    return _Alone(name, 1, tuple(x.shape), passes * _forward_gflop(layer, x), min(times))


def _formats(x: Tensor) -> list[torch.memory_format]:
    return [torch.contiguous_format, torch.channels_last_3d][: 2 if x.ndim == 5 else 1]


def _forward_gflop(layer: nn.Module, x: Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    return counter.get_total_flops() / 1e9
