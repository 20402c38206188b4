"""Base of all config models."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from eeg2fmri_dist.config.names.renamed import (
    RenamedItems,
    RenamedKey,
    RenamedValue,
    with_current_names,
)
from eeg2fmri_dist.config.without_effect import WithoutEffect

MAX_THREADS = 1024  # far more end a process without a word


def _as_text(value: Any) -> Any:
    # YAML reads 32 as a number.
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _as_word(value: Any) -> Any:
    # YAML reads off as false.
    return "off" if value is False else value


SubjectId = Annotated[str, BeforeValidator(_as_text)]
OffIsAWord = BeforeValidator(_as_word)


class Schema(BaseModel):
    """A section of a config: unknown keys are refused, values do not change after loading.

    Attributes
    ----------
    renamed : tuple of RenamedKey, RenamedValue or RenamedItems
        Former names of keys and values, which are still read.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
    renamed: ClassVar[tuple[RenamedKey | RenamedValue | RenamedItems, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _under_current_names(cls, values: Any) -> Any:
        return with_current_names(cls, values)[0] if isinstance(values, dict) else values

    def without_effect(self) -> Iterable[WithoutEffect]:
        """Return keys that were set and change nothing, by what other keys say.

        Those of the sections below are theirs to tell; keys are relative to this one.
        """
        return ()
