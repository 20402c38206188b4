"""Numbers that say that a training has gone wrong, noticed before a checkpoint holds them."""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np
from torch import Tensor

from eeg2fmri_dist.config.train import WatchdogConfig
from eeg2fmri_dist.errors import DivergedError

_REMEMBERED_STEPS = 100
_STEPS_BEFORE_JUDGING = 10


class Watchdog:
    """Looks at the numbers of each step, those of all ranks.

    Parameters
    ----------
    config : WatchdogConfig
        Limits.
    """

    def __init__(self, config: WatchdogConfig):
        self._config = config
        self._norms: deque[float] = deque(maxlen=_REMEMBERED_STEPS)
        self._exploding = 0
        self._skipped = 0
        self._seen: dict[int, np.ndarray] = {}

    def check_step(
        self,
        step: int,
        losses: Sequence[float],
        weights_finite: Sequence[bool],
        gradient_norm: float,
        *,
        skipped: bool,
        loss_scaling: bool,
    ) -> None:
        """Raise if a step broke the training (called on all ranks with the same numbers).

        Parameters
        ----------
        step : int
            Optimizer steps done.
        losses, weights_finite : sequence, one per rank
            Loss on the rank's share; whether its weights are finite after the step.
        gradient_norm : float
            Over all ranks.
        skipped : bool
            Whether the engine left the step out because the gradient was not finite.
        loss_scaling : bool
            Whether that is to be expected now and then, as in fp16.

        Raises
        ------
        DivergedError
            Names the rank and what is wrong.
        """
        for rank, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise _diverged(f"the training loss of rank {rank} became {loss} at step {step}")
        if loss_scaling:
            skipped |= not math.isfinite(gradient_norm)
            self._check_skipped(step, skipped)
        elif skipped:
            raise _diverged(f"the gradient of step {step} is not finite")
        for rank, finite in enumerate(weights_finite):
            if not finite:
                raise _diverged(f"weights of rank {rank} are not finite after step {step}")
        if not skipped:
            self._check_norm(step, gradient_norm)

    def check_batch(self, indices: np.ndarray, batch: dict[str, Tensor]) -> None:
        """Raise if a batch has the same content as an earlier one of other windows.

        Parameters
        ----------
        indices : ndarray of int
            Its windows.
        batch : dict of Tensor
            Its content.

        Raises
        ------
        DivergedError
            A data set that repeats makes training and scores look better than they are.
        """
        field = next(iter(batch.values()))
        content = zlib.crc32(
            field[0, -1].contiguous().numpy().tobytes()
        )  # no two windows end at one TR
        window = indices[:1]
        earlier = self._seen.setdefault(content, window)
        if not np.array_equal(earlier, window):
            raise DivergedError(
                f"the data set repeats: windows {earlier[0]} and {window[0]} hold the same numbers",
                remedy="look for a recording that is in the store twice (python -m "
                "eeg2fmri_dist.store info STORE)",
            )

    def _check_skipped(self, step: int, skipped: bool) -> None:
        self._skipped = self._skipped + 1 if skipped else 0
        if self._skipped >= self._config.steps_in_a_row:
            raise DivergedError(
                f"the engine skipped {self._skipped} steps in a row, the last is step {step}: "
                "gradients overflow in fp16 whatever the loss scale",
                remedy="set engine.precision=bf16 or fp32, or lower optimization.learning_rate; "
                "the last checkpoint is kept",
            )

    def _check_norm(self, step: int, norm: float) -> None:
        if not math.isfinite(norm):
            raise _diverged(f"the gradient norm became {norm} at step {step}")
        usual = median(self._norms) if len(self._norms) >= _STEPS_BEFORE_JUDGING else math.inf
        if norm <= self._config.gradient_growth * usual:
            self._exploding = 0
            self._norms.append(norm)
            return
        self._exploding += 1
        if self._exploding >= self._config.steps_in_a_row:
            raise _diverged(
                f"the gradient norm is {norm:.3g} at step {step}, {self._exploding} steps in a row "
                f"more than {self._config.gradient_growth:g} times its median {usual:.3g}"
            )


def _diverged(what: str) -> DivergedError:
    return DivergedError(
        what,
        remedy="lower optimization.learning_rate or set optimization.gradient_clipping; "
        "the last checkpoint is kept (watchdog.rewinds=1 goes back to it and skips the batch)",
    )
