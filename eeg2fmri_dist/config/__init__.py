"""Configuration: YAML files and ``key.path=value`` overrides, checked by pydantic models."""

from eeg2fmri_dist.config.base import Schema
from eeg2fmri_dist.config.description import describe, describe_key, describe_sections
from eeg2fmri_dist.config.loading import load_config, load_resolved, to_yaml
from eeg2fmri_dist.config.renamed import with_current_names

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
