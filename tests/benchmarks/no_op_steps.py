"""Steps of a recording that do nothing, in place of `preprocessing.steps`."""

from __future__ import annotations

from typing import Any

from preprocessing.summary import Row


def register(*_: Any) -> None:
    """Register nothing."""


def eeg(*_: Any) -> None:
    """Compute no features."""


def shard(item: Any, *_: Any) -> Row:
    """Write no shard; return a row as a real step does."""
    return Row(item.place.recording.key, "computed")
