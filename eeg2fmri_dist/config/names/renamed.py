"""Keys and values under their former names: configs of earlier versions stay readable.

A schema lists what was renamed in it, with paths relative to itself::

    class OptimizationConfig(Schema):
        renamed = (RenamedKey("early_stopping", "patience"),)

    class TrainConfig(Schema):
        renamed = (
            RenamedKey("optimisation", "optimization"),
            RenamedKey("optimization.loss", "model.loss"),  # sees what the line above has left
            RenamedValue("recipe", "own", "default"),
        )

Rules apply in their order; those of a section before those of the sections below it.
"""

from __future__ import annotations

import copy
import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eeg2fmri_dist.config.names.tree import nested_schemas, variants_of
from eeg2fmri_dist.errors import ConfigError

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A former name that was met.

    Attributes
    ----------
    old : str
        Whole key, with its value where that was renamed.
    new : str or None
        The same of today; None = left out, because what it would belong to has no such key.
    """

    old: str
    new: str | None

    def __str__(self) -> str:
        if self.new is None:
            return f"{self.old} is left out: it has no effect here"
        return f"{self.old} is now called {self.new}"


@dataclass(frozen=True)
class RenamedKey:
    """A key or section that had another name or place; its values are the same.

    Attributes
    ----------
    old, new : str
        Dotted, relative to the schema whose table has the rule.
    """

    old: str
    new: str

    def apply(
        self, schema: type[BaseModel], values: dict[str, Any], place: KeyPath
    ) -> list[Change]:
        """Move what lies under the old name; returns what was done.

        Raises
        ------
        ConfigError
            If both names are given, with different values.
        """
        old, new = _split(self.old), _split(self.new)
        value = _find(values, old)
        if value is _ABSENT or not _can_hold(values, new):
            return []
        is_taken = old[:-1] == new[:-1] or _takes(schema, values, new)
        _remove(values, old)
        if not is_taken:
            return [Change(_join(place, old), None)]
        _put(values, new, value, (_join(place, old), _join(place, new)))
        return [Change(_join(place, old), _join(place, new))]


@dataclass(frozen=True)
class RenamedValue:
    """One value of a key that had another name, or that another key has today.

    Attributes
    ----------
    key : str
        Dotted, relative to the schema whose table has the rule.
    old, new : object
        The value then and now.
    new_key : str or None
        Key that has the new value; None = the same.
    """

    key: str
    old: Any
    new: Any
    new_key: str | None = None

    def apply(
        self, schema: type[BaseModel], values: dict[str, Any], place: KeyPath
    ) -> list[Change]:
        """Replace the old value; returns what was done (see `RenamedKey.apply`)."""
        key, new_key = _split(self.key), _split(self.new_key or self.key)
        if _find(values, key) != self.old or not _can_hold(values, new_key):
            return []
        _remove(values, key)
        old, new = f"{_join(place, key)}: {self.old}", f"{_join(place, new_key)}: {self.new}"
        _put(values, new_key, self.new, (old, new))
        return [Change(old, new)]


@dataclass(frozen=True)
class RenamedItems:
    """Values of a key, one or a list, of which several had other names.

    Attributes
    ----------
    key : str
        Dotted, relative to the schema whose table has the rule.
    names : mapping of str to str
        The value then -> now.
    """

    key: str
    names: Mapping[str, str]

    def apply(
        self, schema: type[BaseModel], values: dict[str, Any], place: KeyPath
    ) -> list[Change]:
        """Replace the old values; returns what was done (see `RenamedKey.apply`)."""
        *above, last = _split(self.key)
        section = _find(values, tuple(above))
        if not isinstance(section, dict) or last not in section:
            return []
        given = section[last]
        items = given if isinstance(given, list) else [given]
        found = [item for item in items if isinstance(item, str) and item in self.names]
        now = [self.names.get(item, item) if isinstance(item, str) else item for item in items]
        section[last] = now if isinstance(given, list) else now[0]
        key = _join(place, (*above, last))
        return [Change(f"{key}: {old}", f"{key}: {self.names[old]}") for old in found]


class KeysOf:
    """Marks a field whose mapping has keys of another schema, nested or dotted.

    ``overrides: Annotated[dict[str, Any], KeysOf(TrainConfig)]``
    """

    def __init__(self, schema: type[BaseModel]):
        self.schema = schema

    def rename(self, mapping: dict[str, Any]) -> tuple[dict[str, Any], list[Change]]:
        """Return the mapping under today's names."""
        renamed: dict[str, Any] = {}
        changes: list[Change] = []
        for key, value in mapping.items():
            item, found = self._rename_item(str(key), value)
            changes += found
            for name, now in item.items():
                _put(renamed, (name,), now, (str(key), name))
        return renamed, changes

    def _rename_item(self, key: str, value: Any) -> tuple[dict[str, Any], list[Change]]:
        nested, changes = with_current_names(self.schema, nest(_split(key), value))
        if not changes:
            return {key: value}, []
        if "." in key:
            return {".".join(path): leaf for path, leaf in leaves(nested)}, changes
        return nested, changes


def with_current_names(
    schema: type[BaseModel], values: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Change]]:
    """Return values of a config under today's names, and what had another one.

    Parameters
    ----------
    schema : type of Schema
        What the values are of; a part of them is enough.
    values : mapping
        As read from YAML or JSON; stays as it is.

    Raises
    ------
    ConfigError
        If a key is given under both names with different values.
    """
    renamed = copy.deepcopy(dict(values))
    if not _has_rules(schema):
        return renamed, []
    changes = _rename_section([schema], renamed, ())
    return renamed, changes


def current_key(schema: type[BaseModel], key: str) -> str:
    """Return today's name of a dotted key."""
    marker = _Marker()
    nested, _ = with_current_names(schema, nest(_split(key), marker))
    found = [path for path, value in leaves(nested) if isinstance(value, _Marker)]
    return ".".join(found[0]) if found else key


def nest(path: KeyPath, value: Any) -> dict[str, Any]:
    """Return a value below the sections of its path."""
    for part in reversed(path):
        value = {part: value}
    return value


def leaves(values: Mapping[str, Any], place: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield path and value of all that is no section; an empty section is a value, too."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*place, key))
        else:
            yield (*place, key), value


class _Marker:
    """A value unlike any other."""


_ABSENT = _Marker()


@functools.cache
def _has_rules(schema: type[BaseModel]) -> bool:
    """Whether anything was renamed in a schema or below it."""
    if getattr(schema, "renamed", ()):
        return True
    fields = schema.model_fields.values()
    return any(
        _has_rules(below)
        for field in fields
        for below in [*nested_schemas(field.annotation), *(k.schema for k in _keys_of(field))]
    )


def _rename_section(
    schemas: list[type[BaseModel]], values: dict[str, Any], place: KeyPath
) -> list[Change]:
    """Apply the rules of a section, of all its variants where nothing tells which it is."""
    changes = []
    for variant in _variants_by_any_name(schemas, values):
        for rule in getattr(variant, "renamed", ()):
            changes += rule.apply(variant, values, place)
    for variant in variants_of(schemas, values):
        for key, field in variant.model_fields.items():
            if key in values:
                values[key], found = _rename_field(field, values[key], (*place, key))
                changes += found
    return changes


def _variants_by_any_name(
    schemas: list[type[BaseModel]], values: dict[str, Any]
) -> list[type[BaseModel]]:
    """Variants that values may belong to, whatever the key is called that tells them apart."""
    if len(schemas) == 1:
        return schemas
    tried = copy.deepcopy(values)
    for variant in schemas:
        for rule in getattr(variant, "renamed", ()):
            rule.apply(variant, tried, ())
    return variants_of(schemas, tried)


def _rename_field(field: FieldInfo, value: Any, place: KeyPath) -> tuple[Any, list[Change]]:
    for keys in _keys_of(field):
        return keys.rename(value) if isinstance(value, dict) else (value, [])
    return value, _rename_typed(field.annotation, value, place)


def _keys_of(field: FieldInfo) -> list[KeysOf]:
    return [mark for mark in field.metadata if isinstance(mark, KeysOf)]


def _rename_typed(annotation: Any, value: Any, place: KeyPath) -> list[Change]:
    """Rename in place what lies in a section, or in the sections of a list or mapping."""
    if isinstance(value, dict):
        if sections := _sections(annotation):
            return _rename_section(sections, value, place)
        items = list(value.items())
    elif isinstance(value, list):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return []
    sections = nested_schemas(annotation)
    return [
        change
        for key, item in items
        if sections and isinstance(item, dict)
        for change in _rename_section(sections, item, (*place, str(key)))
    ]


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Sections that the value itself may be, without those of lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is Annotated:
        return _sections(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (list, tuple, dict):
        return []
    return [s for argument in typing.get_args(annotation) for s in _sections(argument)]


def _takes(schema: type[BaseModel], values: dict[str, Any], path: KeyPath) -> bool:
    """Whether a path leads to a key, of the variants that the values tell."""
    schemas: list[type[BaseModel]] = [schema]
    here: Any = values
    for part in path:
        schemas = variants_of(schemas, here if isinstance(here, dict) else {})
        fields = [s.model_fields[part] for s in schemas if part in s.model_fields]
        if not fields:
            return False
        schemas = [s for field in fields for s in nested_schemas(field.annotation)]
        here = here.get(part) if isinstance(here, dict) else None
    return True


def _can_hold(values: dict[str, Any], path: KeyPath) -> bool:
    """Whether nothing but sections stands on the way to a path."""
    above: list[Any] = [_find(values, path[:depth]) for depth in range(1, len(path))]
    return all(value is _ABSENT or isinstance(value, dict) for value in above)


def _find(values: Any, path: KeyPath) -> Any:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return _ABSENT
        values = values[part]
    return values


def _remove(values: dict[str, Any], path: KeyPath) -> None:
    """Take a key out, and the sections that then are empty."""
    if len(path) > 1:
        section = values[path[0]]
        _remove(section, path[1:])
        if section:
            return
    del values[path[0]]


def _put(values: dict[str, Any], path: KeyPath, value: Any, names: tuple[str, str]) -> None:
    """Set a key; one that is there may say no other thing."""
    for part in path[:-1]:
        values = values.setdefault(part, {})
    there = values.get(path[-1], _ABSENT)
    if there is _ABSENT:
        values[path[-1]] = value
    elif isinstance(there, dict) and isinstance(value, dict):
        for key, inner in value.items():
            _put(there, (key,), inner, (f"{names[0]}.{key}", f"{names[1]}.{key}"))
    elif there != value:
        raise ConfigError(
            f"{names[0]} and {names[1]} are given, with different values ({value!r}, {there!r}); "
            "the first is a former name of the second",
            remedy=f"keep {names[1]} alone",
        )


def _split(key: str) -> KeyPath:
    return tuple(key.split("."))


def _join(*parts: KeyPath) -> str:
    return ".".join(part for path in parts for part in path)
