"""Signals that ask a training to stop: noticed on any rank, acted on by all together.

Imports no torch, so that signals are caught from the first moment of a start-up that takes seconds.
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class StopAskedError(Exception):
    """Raised on all ranks at the same boundary once they have agreed to stop."""


class StopRequest:
    """A flag that signal handlers set and that ranks agree on at boundaries.

    A handler cannot save: saving is collective, and the other ranks may be inside another
    collective. So it only sets a flag.

    Attributes
    ----------
    received : int
        Number of the signal that this rank received; 0 = none.
    agreed : int
        Number of a signal that all ranks know of; 0 = none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0
        self._previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def agree(self) -> None:
        """Raise on every rank if any rank has been asked to stop (a collective call).

        Raises
        ------
        StopAskedError
            If so.
        """
        from eeg2fmri_dist.training.distributed.collectives import share_with_all

        self.note_agreed(int(share_with_all([self.received]).max()))

    def note_agreed(self, number: int) -> None:
        """Take the signal number that ranks agreed on; raise `StopAskedError` unless it is 0."""
        self.agreed = number
        if number:
            raise StopAskedError

    @property
    def name(self) -> str:
        """Name of the signal, such as SIGTERM."""
        number = self.agreed or self.received
        return signal.Signals(number).name if number else "none"

    def close(self) -> None:
        """Give signals back to their former handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for a save
        self.received = number
