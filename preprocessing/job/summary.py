"""What became of each recording, as a table."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eeg2fmri_dist.errors import DataError, SuiteError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """What became of one recording.

    Attributes
    ----------
    recording : str
        Its key, such as ``sub-32``.
    state : str
        "computed", "up to date", "failed" or "excluded".
    n_volumes : int or None
        Volumes in the store.
    dice : float or None
        Overlap of the warped EPI mask and the template's mask.
    transform : str
        The transform that was chosen, "affine" or "syn".
    seconds : float or None
        Time that its steps took when they last ran.
    message : str
        What is worth knowing, in a few words; why it was excluded.
    error : str
        Why it failed and what to do; empty if it did not.
    costs : dict
        What each of its steps took when it last ran, as `preprocessing.job.cost.Cost` says.
    """

    recording: str
    state: str
    n_volumes: int | None = None
    dice: float | None = None
    transform: str = ""
    seconds: float | None = None
    message: str = ""
    error: str = ""
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def peak_gib(self) -> float | None:
        """Largest memory of a worker during its steps."""
        peaks = [cost["peak_bytes"] for cost in self.costs.values()]
        return max(peaks) / 2**30 if peaks else None


@dataclass(frozen=True)
class Summary:
    """What a run of the pipeline did.

    Attributes
    ----------
    store : Path
    merged : bool
        Whether the store was written anew; False = it was up to date.
    rows : tuple of Row
        One for each recording found, in the order of the store.
    """

    store: Path
    merged: bool
    rows: tuple[Row, ...]

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        cells = [
            (
                row.recording,
                row.state,
                _number(row.n_volumes, "d"),
                _number(row.dice, ".3f"),
                row.transform,
                _number(row.seconds, ".1f"),
                _number(row.peak_gib, ".2f"),
                row.message,
            )
            for row in self.rows
        ]
        header = ("recording", "state", "volumes", "Dice", "transform", "seconds", "GiB", "message")
        return [*table(header, cells), self.total()]

    def check_complete(self) -> None:
        """Refuse a summary that names failures, which a batch system should hear of.

        Raises
        ------
        DataError
            If a recording failed, though the others are in the store (``on_error: continue``).
        """
        failed = [row for row in self.rows if row.state == "failed"]
        if failed:
            reasons = [f"{row.recording}: {row.message}: {row.error}" for row in failed]
            n_wanted = sum(row.state != "excluded" for row in self.rows)
            what = f"{len(failed)} of {n_wanted} recordings failed; the store has the others"
            raise DataError(
                textwrap.indent("\n".join([what, *reasons]), "  ").strip(),
                where=self.store,
                remedy="correct these recordings, or leave them out with source.exclude",
            )

    def total(self) -> str:
        """Return one line about all recordings."""
        states = [row.state for row in self.rows]
        counts = [
            f"{states.count(state)} {state}" for state in ("computed", "up to date", "failed")
        ]
        if "excluded" in states:
            counts.append(f"{states.count('excluded')} excluded")
        costs = [
            cost for row in self.rows if row.state == "computed" for cost in row.costs.values()
        ]
        if not costs:
            return ", ".join(counts)
        cpu_s = sum(cost["cpu_s"] for cost in costs)
        peak = max(cost["peak_bytes"] for cost in costs) / 2**30
        hosts = len({cost["host"] for cost in costs})
        return (
            f"{', '.join(counts)}; {core_time(cpu_s)} on {hosts} "
            f"machine{'s' if hosts > 1 else ''}, at most {peak:.2f} GiB per worker"
        )


def failed_row(key: str, step: str, error: BaseException) -> Row:
    """Return the row of a recording that failed, and log why.

    Raises
    ------
    SuiteError
        The error itself, where it concerns all recordings: a full disk, a wrong config.
    """
    if not isinstance(error, SuiteError):
        logger.debug("%s: %s", key, step, exc_info=error)
        error = DataError(
            f"{type(error).__name__}: {error}",
            remedy="run it again with --debug, which shows the traceback",
        )
    if not isinstance(error, DataError):
        raise error
    logger.error("%s: %s failed: %s", key, step, error)
    return Row(key, "failed", message=f"{step} failed", error=str(error))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with columns of equal width."""
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def core_time(cpu_s: float) -> str:
    """Return processor seconds in the unit in which clusters count them."""
    return f"{cpu_s / 3600:.2f} core-hours" if cpu_s > 360 else f"{cpu_s / 60:.1f} core-minutes"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
