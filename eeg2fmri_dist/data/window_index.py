"""Index arithmetic: which consecutive TRs make a window."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """Consecutive TRs of one segment.

    Attributes
    ----------
    segment : int
        Index of the segment.
    start : int
        First TR, counted from the start of the segment.
    fresh : int
        TRs at the window's end that no earlier window of a tiling has covered.
    """

    segment: int
    start: int
    fresh: int


def training_windows(lengths: list[int], window: int, stride: int) -> list[Window]:
    """Return overlapping windows that reach every TR of every segment long enough for one."""
    windows = []
    for segment, length in enumerate(lengths):
        if length < window:
            continue
        starts = list(range(0, length - window + 1, stride))
        if starts[-1] != length - window:
            starts.append(length - window)
        windows += [Window(segment, start, window) for start in starts]
    return windows


def tiling_windows(lengths: list[int], window: int) -> list[Window]:
    """Return windows whose fresh TRs cover every TR exactly once.

    The last window of a segment is moved back so that it fits; a segment shorter than a window
    gets one window of its own length.
    """
    windows = []
    for segment, length in enumerate(lengths):
        covered = 0
        while covered < length:
            start = max(0, min(covered, length - window))
            stop = min(start + window, length)
            windows.append(Window(segment, start, stop - covered))
            covered = stop
    return windows
