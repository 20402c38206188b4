"""Settings that change nothing: refused where they are a mistake, else warned of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class WithoutEffect:
    """A key that was set and changes nothing.

    Attributes
    ----------
    key : str
        Dotted, relative to the section that tells of it.
    counts_for : str
        What it would be read for, as in "it counts for split.name: k_fold".
    is_mistake : bool
        Nobody can mean it. False = it may come from a file that several configs share.
    """

    key: str
    counts_for: str
    is_mistake: bool = False

    def __str__(self) -> str:
        return f"{self.key!r} has no effect here: it counts for {self.counts_for}"


def find_without_effect(config: BaseModel, prefix: str = "") -> Iterator[WithoutEffect]:
    """Yield all such keys of a config, by their whole names."""
    for found in getattr(config, "without_effect", tuple)():
        yield replace(found, key=f"{prefix}{found.key}")
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from find_without_effect(value, f"{prefix}{name}.")


def given(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return the keys that were set to something else than their default, dotted.

    A resolved config, which holds every key, thus tells the same as the files that it came from.
    """
    found: dict[str, Any] = {}
    for name in config.model_fields_set:
        value, default = getattr(config, name), type(config).model_fields[name].default
        if isinstance(value, BaseModel):
            found |= given(value, f"{prefix}{name}.")
        elif value != default:
            found[f"{prefix}{name}"] = value
    return found


def unread(
    keys: dict[str, Any], counts_for: str, *names: str, is_mistake: bool = False
) -> Iterator[WithoutEffect]:
    """Yield those of the given keys that have one of the names, or lie below one ("engine.")."""
    for key in sorted(keys):
        if any(key == name or (name.endswith(".") and key.startswith(name)) for name in names):
            yield WithoutEffect(key, counts_for, is_mistake)
