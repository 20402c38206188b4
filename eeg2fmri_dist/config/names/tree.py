"""The tree of sections that a schema is: what lies below a key, which variant of it is meant."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel


def nested_schemas(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a key may hold, those in lists and mappings included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for argument in typing.get_args(annotation) for s in nested_schemas(argument)]


def tags(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the keys that tell a variant from the others (``name: unet``) with their values."""
    found = {}
    for name, field in schema.model_fields.items():
        choices = typing.get_args(field.annotation)
        if typing.get_origin(field.annotation) is Literal and len(choices) == 1:
            found[name] = choices[0]
    return found


def variants_of(
    schemas: Sequence[type[BaseModel]], values: Mapping[str, Any]
) -> list[type[BaseModel]]:
    """Return the variants that values may belong to: all of them where nothing tells."""
    fitting = [
        schema
        for schema in schemas
        if all(values.get(name, tag) == tag for name, tag in tags(schema).items())
    ]
    return fitting or list(schemas)


def all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the whole keys of a schema, sections included, those of variants once."""
    keys: dict[str, None] = {}
    for name, field in schema.model_fields.items():
        keys[f"{prefix}{name}"] = None
        for nested in nested_schemas(field.annotation):
            keys |= dict.fromkeys(all_keys(nested, f"{prefix}{name}."))
    return list(keys)
