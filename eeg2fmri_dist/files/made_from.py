"""Is a result what it would be made from now? Described, compared, and said in words.

What a result depends on (settings, fingerprints, states of files) is described as one nested
mapping of JSON values. It is kept with the result; a rerun compares it with what it would describe
now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

NO_RECORD = "there is no record of what it was made from"
_LONGEST_SHOWN = 60


class Difference(NamedTuple):
    """A value in which two descriptions differ.

    Attributes
    ----------
    key : str
        Dotted.
    old, new : object
        As recorded, and now; None = there is no such key.
    """

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} changed from {shown(self.old)} to {shown(self.new)}"


def describe(**parts: Any) -> dict[str, Any]:
    """Return what a result is made from as JSON values: paths are text, tuples are lists.

    Raises
    ------
    TypeError
        If a value is nothing that JSON knows.
    """
    return json.loads(json.dumps(parts, default=_as_text))


def differences(recorded: Any, now: Any, prefix: str = "") -> Iterator[Difference]:
    """Yield everything in which two descriptions differ, by dotted key, in their order."""
    if not (isinstance(recorded, Mapping) and isinstance(now, Mapping)):
        if recorded != now:
            yield Difference(prefix, recorded, now)
        return
    for key in {**recorded, **now}:
        path = f"{prefix}.{key}" if prefix else str(key)
        yield from differences(recorded.get(key), now.get(key), path)


def why_stale(recorded: object, now: Mapping[str, Any]) -> str | None:
    """Return why a result must be made again; None = it is made from just this.

    Parameters
    ----------
    recorded : object
        What was kept with the result; anything but a mapping that is not empty counts as nothing.
    now : mapping
        What it would be made from, as `describe` returns it.
    """
    if not isinstance(recorded, Mapping) or not recorded:
        return NO_RECORD
    found = list(differences(recorded, now))
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON mapping of a file; empty where it is missing, damaged or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def shown(value: Any) -> str:
    """Return a value as a message names it: hashes and long lists are cut."""
    if isinstance(value, str) and len(value) >= 32 and all(c in "0123456789abcdef" for c in value):
        return value[:12]
    text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _as_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} cannot be part of a description")
