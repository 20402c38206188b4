"""What pydantic finds wrong with a config, in the words of YAML: key, value, file, nearest key."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from eeg2fmri_dist.config.names.tree import all_keys, nested_schemas, tags
from eeg2fmri_dist.config.reading.layers import Layers
from eeg2fmri_dist.errors import ConfigError

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
_MANY = 8


def explain_all(error: ValidationError, layers: Layers, path: str | Path) -> ConfigError:
    """Return an error that says what is wrong, in which file or override.

    Parameters
    ----------
    error : ValidationError
        Of the schema of the layers.
    layers : Layers
        What the config was made from.
    path : str or Path
        File that the user gave.
    """
    problems, sources = [], []
    for problem in error.errors():
        key, known = _locate(layers.schema, [str(part) for part in problem["loc"]])
        # What is missing stands nowhere.
        source = layers.source_of(tuple(key)) if problem["type"] != "missing" else None
        problems.append(_explain(problem, key, known, layers.schema))
        sources.append(source or os.path.normpath(path))
    if len(set(sources)) > 1:
        problems = [f"{text} ({source})" for text, source in zip(problems, sources, strict=True)]
    return ConfigError(
        "; ".join(problems),
        where=sources[0] if len(set(sources)) == 1 else path,
        remedy="--help lists every key with its type, default and meaning; --help KEY one alone",
    )


def refuse_config_of_another_kind(
    values: dict[str, Any], path: str | Path, schema: type[BaseModel]
) -> None:
    """Say so where most keys are unknown, instead of listing them.

    Raises
    ------
    ConfigError
        If the values look like the config of another command.
    """
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


def nearest_key(key: str, near: list[str], schema: type[BaseModel]) -> str | None:
    """Return the key that was probably meant, whole.

    Parameters
    ----------
    key : str
        Whole unknown key, dotted.
    near : list of str
        Keys known in its section, without the section.
    schema : type of Schema
        Where else it is looked for.
    """
    section, dot, last = key.rpartition(".")
    if found := difflib.get_close_matches(last, near, n=1):
        return f"{section}{dot}{found[0]}"
    elsewhere = [known for known in all_keys(schema) if known.rpartition(".")[2] == last]
    if elsewhere:
        return elsewhere[0]
    return next(iter(difflib.get_close_matches(key, all_keys(schema), n=1, cutoff=0.75)), None)


def _explain(problem: Any, path: list[str], known: list[str], schema: type[BaseModel]) -> str:
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return _explain_unknown(path, known, schema)
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return f"{key!r} = {problem['input']!r}: too few values"
    if problem["type"] == "union_tag_not_found":
        return f"key {key + '.' + problem['ctx']['discriminator'].strip(chr(39))!r} is required"
    if problem["type"] == "missing":
        return f"key {key!r} is required"
    message = _EXPECTED.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if not key:
        return message
    return f"{key!r} = {problem.get('input')!r}: {message}"


def _explain_unknown(path: list[str], known: list[str], schema: type[BaseModel]) -> str:
    key = ".".join(path)
    if meant := nearest_key(key, known, schema):
        return f"unknown key {key!r}, did you mean {meant!r}?"
    names = [".".join([*path[:-1], name]) for name in known]
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return f"unknown key {key!r}, known here: {', '.join(names[:_MANY])}{more}"


def _locate(schema: type[BaseModel], location: list[str]) -> tuple[list[str], list[str]]:
    """Return the key path without pydantic's names of union members, and the keys known there."""
    schemas, path = [schema], []
    for position, part in enumerate(location):
        fields = {name: field for s in schemas for name, field in s.model_fields.items()}
        is_last = position == len(location) - 1
        if part not in fields and not is_last and not part.isdigit():
            named = [s for s in schemas if part == s.__name__ or part in tags(s).values()]
            schemas = named or schemas
            continue
        path.append(part)
        if part.isdigit() and not is_last:
            continue  # an entry of a list of sections
        nested = nested_schemas(fields[part].annotation) if part in fields else []
        if is_last or not nested:
            break
        schemas = nested
    return path, sorted({name for s in schemas for name in s.model_fields})
