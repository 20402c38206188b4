"""The keys of a config in words, as ``--help`` shows them."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eeg2fmri_dist.config.names.renamed import current_key
from eeg2fmri_dist.config.names.tree import all_keys, nested_schemas, tags
from eeg2fmri_dist.errors import ConfigError


def describe(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Return one line per key: name, type, default, meaning (with unit)."""
    return [
        line
        for name, field in schema.model_fields.items()
        for line in _describe_field(f"{prefix}{name}", field)
    ]


def describe_sections(schema: type[BaseModel]) -> list[str]:
    """Return one line per section, with the names of its variants, and one of the other keys."""
    lines, alone = [], []
    for name, field in schema.model_fields.items():
        nested = nested_schemas(field.annotation)
        names = [f"{name}.{tag}" for variant in nested for tag in tags(variant).values()]
        if len(nested) > 1:
            lines.append(f"{name}: {', '.join(names)}")
        elif nested:
            lines.append(f"{name}: {', '.join(nested[0].model_fields)}")
        else:
            alone.append(name)
    return [*([", ".join(alone)] if alone else []), *lines]


def describe_key(schema: type[BaseModel], key: str) -> list[str]:
    """Return the lines of `describe` of a section, a variant of one (``model.unet``) or a key.

    Raises
    ------
    ConfigError
        If there is none of this name; the nearest ones are given.
    """
    places = [_Place("", None, schema)]
    for part in current_key(schema, key).split("."):
        places = [below for place in places for below in _step(place, part)]
    if not places:
        known = _names(schema)
        near = difflib.get_close_matches(key, known, n=3) or list(schema.model_fields)
        raise ConfigError(
            f"no section or key {key!r}, the nearest are: {', '.join(near)}",
            remedy="--help lists every key",
        )
    lines = [line for place in places for line in _describe_place(place)]
    return list(dict.fromkeys(lines))


class _Place(NamedTuple):
    """A key, or one variant (`schema`) of the section that it is."""

    key: str
    field: FieldInfo | None
    schema: type[BaseModel] | None


def _step(place: _Place, part: str) -> Iterator[_Place]:
    """Places that a part of a key leads to: variants of a section, and keys below it."""
    if place.schema is not None:
        schemas = [place.schema]
    else:
        assert place.field is not None
        schemas = nested_schemas(place.field.annotation)
        yield from (
            _Place(place.key, place.field, variant)
            for variant in schemas
            if part in tags(variant).values()
        )
    for schema in schemas:
        if part in schema.model_fields:
            key = f"{place.key}.{part}" if place.key else part
            yield _Place(key, schema.model_fields[part], None)


def _describe_place(place: _Place) -> list[str]:
    if place.schema is None:
        assert place.field is not None
        return _describe_field(place.key, place.field)
    return [f"{place.key}, {place.schema.__doc__}", *describe(place.schema, f"{place.key}.")]


def _describe_field(key: str, field: FieldInfo) -> list[str]:
    nested = nested_schemas(field.annotation)
    about = field.description or ""
    if not nested:
        default = "required" if field.is_required() else f"default {_shown(field.default)}"
        return [f"{key}  ({_type_name(field.annotation)}; {default})  {about}"]
    lines = [f"{key}:  {about}"]
    for variant in nested:
        if len(nested) > 1:
            lines.append(f"{key}, {variant.__doc__}")
        lines += describe(variant, f"{key}.")
    return lines


def _names(schema: type[BaseModel]) -> list[str]:
    """Everything that `describe_key` takes, the plain names of sections and variants first."""
    variants = [
        f"{name}.{tag}"
        for name, field in schema.model_fields.items()
        for variant in nested_schemas(field.annotation)
        for tag in tags(variant).values()
    ]
    return [*all_keys(schema), *variants]


def _type_name(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if annotation is ...:
        return "..."
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(argument) for argument in arguments)
    if origin is not None:
        return f"{origin.__name__} of {', '.join(_type_name(a) for a in arguments)}"
    return getattr(annotation, "__name__", str(annotation))


def _shown(default: Any) -> str:
    """A default as YAML has it, on one line."""
    return (
        yaml.safe_dump(_plain(default), default_flow_style=True, width=1000)
        .removesuffix("\n...\n")
        .strip()
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
