"""YAML files + overrides -> checked config."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from eeg2fmri_dist.config.base import Schema
from eeg2fmri_dist.config.reading.layers import Layers
from eeg2fmri_dist.config.reading.problems import explain_all, refuse_config_of_another_kind
from eeg2fmri_dist.config.without_effect import WithoutEffect, find_without_effect
from eeg2fmri_dist.errors import ConfigError

SchemaT = TypeVar("SchemaT", bound=Schema)

logger = logging.getLogger(__name__)

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


def load_config(schema: type[SchemaT], path: str | Path, overrides: Sequence[str] = ()) -> SchemaT:
    """Read a config file, apply overrides, check it.

    A file may name others under ``extends`` (relative to itself), one or a list: later ones win,
    its own keys win over all. Former names of keys are read; a line on the log gives today's.

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
        If a file cannot be read, or a key is unknown, missing, out of range, of the wrong type, or
        set where it certainly changes nothing.
    """
    layers = Layers(schema)
    layers.add_file(Path(path))
    for override in overrides:
        layers.add_override(override)
    config = _validated(schema, layers, path)
    for change, source in layers.changes.items():
        _say_once(f"{source}: {change}")
    _report_without_effect(list(find_without_effect(config)), layers, path)
    return config


def load_resolved(schema: type[SchemaT], path: Path) -> SchemaT:
    """Read what `to_yaml` wrote, now or in an earlier version; nothing is said of former names.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    layers = Layers(schema)
    layers.add_file(path)
    return _validated(schema, layers, path)


def to_yaml(config: Schema) -> str:
    """Return the resolved config as YAML that `load_config` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _validated(schema: type[SchemaT], layers: Layers, path: str | Path) -> SchemaT:
    refuse_config_of_another_kind(layers.values, path, schema)
    try:
        return schema.model_validate(layers.values)
    except ValidationError as error:
        raise explain_all(error, layers, path) from None


def _report_without_effect(found: list[WithoutEffect], layers: Layers, path: str | Path) -> None:
    """Refuse mistakes; warn of the others in one line."""
    if mistakes := [item for item in found if item.is_mistake]:
        source = layers.source_of(tuple(mistakes[0].key.split(".")))
        raise ConfigError(
            "; ".join(map(str, mistakes)),
            where=source or path,
            remedy="leave it out, or set what it counts for",
        )
    if found:
        _say_once(f"{path}: {'; '.join(map(str, found))}")


@functools.cache
def _say_once(line: str) -> None:
    """Log a line, on the first rank, once however often a config is read."""
    if next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0":
        logger.warning("%s", line)
