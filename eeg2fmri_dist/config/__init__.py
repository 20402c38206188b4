"""Configuration: YAML files and ``key.path=value`` overrides, checked by pydantic models."""

from eeg2fmri_dist.config.loading import describe, load_config, to_yaml
from eeg2fmri_dist.config.schema import Schema

__all__ = ["Schema", "describe", "load_config", "to_yaml"]
