"""Signals that ask a training to stop: noticed on any rank, acted on by all together."""

from __future__ import annotations

import signal
from types import FrameType

import torch
import torch.distributed as dist

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class StopRequest:
    """A flag that signal handlers set and that ranks agree on between steps.

    A handler cannot save: saving is collective, and the other ranks may be inside another
    collective. So it only sets a flag.
    """

    def __init__(self) -> None:
        self._received: int = 0
        self._previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def agreed(self) -> bool:
        """Return True on every rank if any rank has been asked to stop (a collective call)."""
        if dist.is_initialized() and dist.get_world_size() > 1:
            flag = torch.tensor([self._received], dtype=torch.int32)
            if dist.get_backend() == "nccl":
                flag = flag.cuda()
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            self._received = int(flag.item())
        return self._received != 0

    @property
    def name(self) -> str:
        """Name of the signal, such as SIGTERM."""
        return signal.Signals(self._received).name if self._received else "none"

    def close(self) -> None:
        """Give signals back to their former handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for a save
        self._received = number
