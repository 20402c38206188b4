"""YAML file + overrides -> checked config; messages name the key and what it should be."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from eeg2fmri_dist.config.schema import Schema
from eeg2fmri_dist.errors import ConfigError

SchemaT = TypeVar("SchemaT", bound=Schema)

_LIST = "a list is expected, such as [1, 2]"
_SECTION = "keys of its own are expected below it, not a single value"
# What pydantic says in Python's words, in those of YAML.
_EXPECTED = {
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "path_type": "a path is expected; in quotes if it looks like a number",
    "string_type": "text is expected; in quotes if it looks like something else",
}


def load_config(
    schema: type[SchemaT], path: str | Path, overrides: typing.Sequence[str] = ()
) -> SchemaT:
    """Read a config file, apply overrides, check it.

    A file may name another one under ``extends`` (relative to itself); its own keys win.

    Parameters
    ----------
    schema : type of Schema
        What the file must look like.
    path : str or Path
        YAML file.
    overrides : sequence of str
        ``key.path=value``, values parsed as YAML; later ones win.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key is unknown, missing, out of range or of the wrong type.
    """
    values = _read_with_parents(Path(path), seen=())
    for override in overrides:
        _apply_override(values, override)
    _refuse_keys_that_are_no_text(values, path)
    _refuse_config_of_another_kind(values, path, schema)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem, schema) for problem in error.errors()]
        raise ConfigError(
            "; ".join(problems),
            where=path,
            remedy="--help lists every key with its type, default and meaning",
        ) from None


def to_yaml(config: Schema) -> str:
    """Return the resolved config as YAML that `load_config` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Return one line per key: name, type, default, meaning (with unit)."""
    lines = []
    for name, field in schema.model_fields.items():
        nested = _nested_schemas(field.annotation)
        about = field.description or ""
        if not nested:
            default = "required" if field.is_required() else f"default {_shown(field.default)}"
            lines.append(f"{prefix}{name}  ({_type_name(field.annotation)}; {default})  {about}")
            continue
        lines.append(f"{prefix}{name}:  {about}")
        for variant in nested:
            if len(nested) > 1:
                lines.append(f"{prefix}{name}, {variant.__doc__}")
            lines += describe(variant, f"{prefix}{name}.")
    return lines


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError("`extends` leads back to this file", where=path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file ({error.strerror})",
            where=path,
            remedy="give an existing file, such as those under configs/",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML: {error}", where=path) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a config file is a mapping of keys to values", where=path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"extends names one config file, got {parent!r}", where=path)
    return _merge(_read_with_parents(path.parent / parent, (*seen, path.resolve())), values)


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: value is not valid YAML: {error}") from None
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    values[last] = value


def _refuse_keys_that_are_no_text(value: Any, path: str | Path, place: str = "") -> None:
    """YAML reads yes, on, 1 and 2020-01-01 as something else than words."""
    if isinstance(value, list):
        for item in value:
            _refuse_keys_that_are_no_text(item, path, place)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if not isinstance(key, str):
            raise ConfigError(
                f"a key{f' of {place!r}' if place else ''} is not text: YAML reads it as "
                f"{key!r} ({type(key).__name__})",
                where=path,
                remedy="write it in quotes, or as one of the keys that --help lists",
            )
        _refuse_keys_that_are_no_text(inner, path, f"{place}.{key}" if place else key)


def _refuse_config_of_another_kind(
    values: dict[str, Any], path: str | Path, schema: type[BaseModel]
) -> None:
    unknown = [key for key in values if key not in schema.model_fields]
    missing = [
        key
        for key, field in schema.model_fields.items()
        if field.is_required() and key not in values
    ]
    slips = len(unknown) < 2 or 2 * len(unknown) <= len(values)
    if slips or not missing:
        return
    raise ConfigError(
        f"most of its keys are unknown here ({', '.join(unknown)}): it looks like the config of "
        "another command",
        where=path,
        remedy=f"give one for {(schema.__doc__ or '').strip().rstrip('.')}; --help lists the keys",
    )


def _explain(problem: Any, schema: type[BaseModel]) -> str:
    path, known = _locate(schema, [str(part) for part in problem["loc"]])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}, {hint}"
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return f"{key!r} = {problem['input']!r}: too few values"
    if problem["type"] == "missing":
        return f"key {key!r} is required"
    message = _EXPECTED.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if not key:
        return message
    return f"{key!r} = {problem.get('input')!r}: {message}"


def _locate(schema: type[BaseModel], location: list[str]) -> tuple[list[str], list[str]]:
    """Return the key path without pydantic's names of union members, and the keys known there."""
    schemas, path = [schema], []
    for position, part in enumerate(location):
        fields = {name: field for s in schemas for name, field in s.model_fields.items()}
        is_last = position == len(location) - 1
        if part not in fields and not is_last and not part.isdigit():
            schemas = [s for s in schemas if part in (s.__name__, _tag(s))] or schemas
            continue
        path.append(part)
        if part.isdigit() and not is_last:
            continue  # an entry of a list of sections
        nested = _nested_schemas(fields[part].annotation) if part in fields else []
        if is_last or not nested:
            break
        schemas = nested
    return path, sorted({name for s in schemas for name in s.model_fields})


def _tag(schema: type[BaseModel]) -> str | None:
    name = schema.model_fields.get("name")
    return None if name is None else name.default


def _nested_schemas(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for argument in typing.get_args(annotation) for s in _nested_schemas(argument)]


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
