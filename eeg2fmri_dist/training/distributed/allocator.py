"""Freed memory, kept for the next step on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
_TRIM_ABOVE_BYTES = 128 << 20
_MMAP_ABOVE_BYTES = 32 << 20
_CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep up to 128 MiB of freed memory instead of handing it back to the kernel.

    A training step frees what the next one allocates again. glibc gives the end of its heap back
    as soon as it is larger than twice the largest block freed so far, and the kernel hands it out
    again page by page, each filled with zeros: 5 to 10 % of a step of the default models. Blocks
    of 32 MiB and more stay maps of their own, glibc's own upper limit.

    Does nothing where the environment sets malloc's thresholds, or the C library is another.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_ABOVE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_ABOVE_BYTES)
