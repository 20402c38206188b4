"""Configuration: YAML files and ``key.path=value`` overrides, checked by pydantic models."""

from eeg2fmri_dist.config.base import Schema
from eeg2fmri_dist.config.names.renamed import with_current_names
from eeg2fmri_dist.config.reading.description import describe, describe_key, describe_sections
from eeg2fmri_dist.config.reading.loading import load_config, load_resolved, to_yaml

__all__ = [
    "Schema",
    "describe",
    "describe_key",
    "describe_sections",
    "load_config",
    "load_resolved",
    "to_yaml",
    "with_current_names",
]
