"""Base of all config models."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

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
    """A section of a config: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
