"""Signals that arrive while there is nothing to save: leave at once, quietly, with an exit code."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from eeg2fmri_dist.errors import StoppedError, SuiteError

# Of a batch system. Ctrl-C keeps its usual meaning.
BATCH_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def leave_on_signals() -> None:
    """Let signals of a batch system end this process with exit code 75 from now on.

    That is all that preprocessing and evaluation need: what they finished is on the disk. A
    training takes the signals over (`training.distributed.preemption`) before it needs to save;
    until then, imports take long enough to be hit.
    """
    for number in BATCH_SIGNALS:
        signal.signal(number, _leave)


def end_process(error: SuiteError) -> NoReturn:
    """End this process now with an error's message and exit code, whatever its threads do.

    Parameters
    ----------
    error : SuiteError
        What the user is told.
    """
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


def _leave(number: int, _frame: FrameType | None) -> None:
    # An exception could be caught by what is being imported, or wait for other threads.
    message = f"stopped by {signal.Signals(number).name}; the same command continues\n"
    os.write(2, message.encode())
    os._exit(StoppedError.exit_code)


def end_quietly() -> None:
    """Let Ctrl-C end this process without a traceback until `raise_again` is called."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, unless somebody else listens for it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
