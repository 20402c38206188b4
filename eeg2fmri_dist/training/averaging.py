"""The model that is scored, saved and used, beside the one that is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeg2fmri_dist.inference.objectives import Objective
from eeg2fmri_dist.training.distributed.engine import trained_parameters
from eeg2fmri_dist.training.distributed.sharding import (
    gather_whole,
    held_part,
    is_sharded,
    local_part,
)

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

_FIRST_AVERAGED_STEPS = 10


class ScoredModel:
    """A plain copy of the model with the weights of the last step or their moving average.

    Validation works on this copy: ranks then score different recordings at their own pace, which
    sharded parameters (ZeRO 3) would not allow.

    Parameters
    ----------
    engine : DeepSpeedEngine
        Trains.
    copy : Objective
        Copied from the engine's module before DeepSpeed took hold of it.
    ema_decay : float or None
        Share of the average that is kept at each step (less in the first steps, so that it forgets
        the initial weights); None = no average.
    """

    def __init__(self, engine: DeepSpeedEngine, copy: Objective, ema_decay: float | None):
        self._engine, self._copy, self._decay = engine, copy.eval().requires_grad_(False), ema_decay
        self._average: dict[str, Tensor] = {}
        if ema_decay is not None:
            for name, parameter in trained_parameters(engine):
                self._average[name] = held_part(parameter).detach().clone()

    @property
    def is_average(self) -> bool:
        """True where the copy is not simply the trained model."""
        return self._decay is not None

    def after_step(self, step: int) -> None:
        """Move the average toward the weights of a step."""
        if self._decay is None:
            return
        decay = min(self._decay, (1 + step) / (_FIRST_AVERAGED_STEPS + step))
        parts = [held_part(parameter) for _, parameter in trained_parameters(self._engine)]
        torch._foreach_lerp_(list(self._average.values()), parts, 1 - decay)

    def current(self) -> Objective:
        """Return the copy with its weights brought up to date (collective under ZeRO 3)."""
        own = dict(self._copy.named_parameters())
        for name, parameter in trained_parameters(self._engine):
            part = self._average.get(name, held_part(parameter))
            own[name].copy_(gather_whole(parameter, part) if is_sharded(parameter) else part)
        return self._copy

    def restore_average(self, whole: Callable[[str], Tensor]) -> None:
        """Set the average from whole tensors, given by parameter name."""
        for name, parameter in trained_parameters(self._engine):
            if name in self._average:
                average, value = self._average[name], whole(name)
                if is_sharded(parameter):
                    value = local_part(parameter, value.to(average.device)).view_as(average)
                average.copy_(value)
