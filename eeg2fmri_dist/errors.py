"""What can go wrong, one class per exit code.

Every message has three parts: what is wrong, where (file, key, subject, volume), what to do.
"""

from __future__ import annotations

import functools
import os


class SuiteError(Exception):
    """A mistake or fault that the user can act on; shown without a traceback.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str, Path or None
        File, config key, subject or volume that it concerns.
    remedy : str or None
        What the user can do about it.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | os.PathLike[str] | None = None, remedy: str | None = None
    ):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where is not None else ""
        remedy = f"\n  What to do: {self.remedy}" if self.remedy else ""
        return f"{where}{self.what}{remedy}"

    def __reduce__(self):
        # Dask and multiprocessing pickle exceptions; keyword-only arguments need this.
        rebuild = functools.partial(type(self), where=self.where, remedy=self.remedy)
        return rebuild, (self.what,)


class ConfigError(SuiteError):
    """A config file, key or value is wrong (exit code 2)."""

    exit_code = 2


class DataError(SuiteError):
    """A recording or a file of it cannot be used (exit code 3)."""

    exit_code = 3


class StoreError(DataError):
    """A store is damaged, of another version, or does not fit (exit code 3)."""


class CheckpointError(DataError):
    """A checkpoint is damaged or does not fit the model or the store (exit code 3)."""


class LaunchError(SuiteError):
    """The environment cannot run this: ranks, devices, libraries, disk space (exit code 4)."""

    exit_code = 4


class DivergedError(SuiteError):
    """Training produced non-finite or exploding numbers (exit code 5)."""

    exit_code = 5


class StoppedError(SuiteError):
    """Stopped cleanly on a signal; the same command continues (exit code 75)."""

    exit_code = 75
