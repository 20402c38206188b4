"""A config before it is checked: files, the files that they extend, overrides; the last wins."""

from __future__ import annotations

import copy
import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from eeg2fmri_dist.config.names.renamed import Change, leaves, nest, with_current_names
from eeg2fmri_dist.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """Keys of one file or override, under today's names.

    Attributes
    ----------
    source : str
        Path of the file, or "override KEY".
    values : dict
        Nested.
    """

    source: str
    values: dict[str, Any]


@dataclass
class Layers:
    """Files and overrides of a config.

    Attributes
    ----------
    schema : type of Schema
        What they are of.
    values : dict
        All of them together.
    layers : list of Layer
        What `values` came from, the last wins.
    changes : dict of Change to str
        Former names that were met -> where.
    """

    schema: type[BaseModel]
    values: dict[str, Any] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    changes: dict[Change, str] = field(default_factory=dict)
    _files: set[Path] = field(default_factory=set)

    def add_file(self, path: Path) -> None:
        """Lay a file over the others, above those that it extends.

        A file that is extended twice counts once, below all files that extend it.

        Raises
        ------
        ConfigError
            If a file cannot be read, or extends itself.
        """
        self._add_with_parents(path, chain=())

    def add_override(self, override: str) -> None:
        """Lay ``key.path=value`` over the others; a mapping takes the place of a whole section.

        Raises
        ------
        ConfigError
            If it has another form.
        """
        key, value = _parse_override(override)
        path = tuple(key.split("."))
        top = {} if isinstance(value, dict) else value
        source = f"override {key}"
        for place, leaf in leaves(self._renamed(nest(path, top), source)):
            _set(self.values, place, leaf)
        self._lay(Layer(source, self._renamed(nest(path, value), source)))

    def source_of(self, path: tuple[str, ...]) -> str | None:
        """Return the file or override that set a key last, or the sections that it stands in."""
        for depth in range(len(path), 0, -1):
            for layer in reversed(self.layers):
                if _has(layer.values, path[:depth]):
                    return layer.source
        return None

    def _add_with_parents(self, path: Path, chain: tuple[Path, ...]) -> None:
        here = path.resolve()
        if here in chain:
            names = [*map(_shown, chain[chain.index(here) :]), _shown(here)]
            raise ConfigError(f"`extends` leads in a circle: {' -> '.join(names)}", where=path)
        if here in self._files:
            return
        values = read_mapping(path)
        for parent in _parents(values, path):
            self._add_with_parents(path.parent / parent, (*chain, here))
        self._files.add(here)
        source = os.path.normpath(path)
        self._lay(Layer(source, self._renamed(values, source)))

    def _lay(self, layer: Layer) -> None:
        self.values = _merge(self.values, copy.deepcopy(layer.values))
        self.layers.append(layer)

    def _renamed(self, values: dict[str, Any], source: str) -> dict[str, Any]:
        try:
            renamed, changes = with_current_names(self.schema, values)
        except ConfigError as error:
            raise ConfigError(error.what, where=source, remedy=error.remedy) from None
        self.changes |= dict.fromkeys(changes, source)
        return renamed


def read_mapping(path: Path) -> dict[str, Any]:
    """Return what a YAML file holds, as it stands there.

    Raises
    ------
    ConfigError
        If it cannot be read or is no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file ({error.strerror})",
            where=path,
            remedy=f"give an existing file, such as {_nearest_files(path)}",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML: {error}", where=path) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a config file is a mapping of keys to values", where=path)
    refuse_keys_that_are_no_text(values, path)
    return values


def refuse_keys_that_are_no_text(value: Any, source: str | Path, place: str = "") -> None:
    """YAML reads yes, on, 1 and 2020-01-01 as something else than words."""
    if isinstance(value, list):
        for item in value:
            refuse_keys_that_are_no_text(item, source, place)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if not isinstance(key, str):
            raise ConfigError(
                f"a key{f' of {place!r}' if place else ''} is not text: YAML reads it as "
                f"{key!r} ({type(key).__name__})",
                where=source,
                remedy="write it in quotes, or as one of the keys that --help lists",
            )
        refuse_keys_that_are_no_text(inner, source, f"{place}.{key}" if place else key)


def _nearest_files(path: Path) -> str:
    """Files beside it of nearly the same name, for a message."""
    beside = [each.name for each in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=3)
    return ", ".join(str(path.with_name(name)) for name in near) or "those under configs/"


def _parents(values: dict[str, Any], path: Path) -> list[str]:
    """Take `extends` out of the values of a file."""
    named = values.pop("extends", None)
    parents = [] if named is None else named if isinstance(named, list) else [named]
    if not all(isinstance(parent, str) for parent in parents):
        raise ConfigError(
            f"extends names one config file, or a list of them, got {named!r}", where=path
        )
    return parents


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: value is not valid YAML: {error}") from None
    refuse_keys_that_are_no_text(value, override, key)
    return key, value


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a key; what stands in the way of its sections goes."""
    *sections, last = path
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value


def _has(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
