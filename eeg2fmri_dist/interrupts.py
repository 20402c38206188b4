"""Ctrl-C while a command is still importing."""

from __future__ import annotations

import signal


def end_quietly() -> None:
    """Let Ctrl-C end this process without a traceback until `raise_again` is called."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, unless somebody else listens for it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
