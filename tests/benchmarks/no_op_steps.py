"""Steps of a recording that do nothing, in place of `preprocessing.job.steps`."""

from __future__ import annotations

from typing import Any

from preprocessing.job.summary import Row


def register(*_: Any) -> None:
    """Register nothing."""


def eeg(*_: Any) -> None:
    """Compute no features."""


def make_shard(shard: Any, *_: Any) -> Row:
    """Write no shard; return a row as a real step does."""
    return Row(shard.key, "computed")
