"""Base of all config models."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A section of a config: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
