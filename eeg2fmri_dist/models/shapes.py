"""In which tensors stored weights and a model differ."""

from __future__ import annotations

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

_SHOWN = 3


def describe_misfit(stored: Shapes, wanted: Shapes) -> str | None:
    """Say in which tensors stored weights differ from what a model has; None if in none.

    Parameters
    ----------
    stored, wanted : mapping of str to tuple of int
        Shapes by name.
    """
    misfits = [
        f"{name} is {stored[name]} there, {shape} here"
        for name, shape in wanted.items()
        if name in stored and stored[name] != shape
    ]
    misfits += [f"it has no {name}" for name in wanted if name not in stored]
    misfits += [f"the model has no {name}" for name in stored if name not in wanted]
    if not misfits:
        return None
    more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
    return "; ".join(misfits[:_SHOWN]) + more
