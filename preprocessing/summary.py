"""What became of each recording, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """What became of one recording.

    Attributes
    ----------
    recording : str
        Its key, such as ``sub-32``.
    state : str
        "computed", "up to date" or "failed".
    n_volumes : int or None
        Volumes in the store.
    dice : float or None
        Overlap of the warped EPI mask and the template's mask.
    transform : str
        The transform that was chosen, "affine" or "syn".
    seconds : float or None
        Time that its steps took when they last ran.
    message : str
        What is worth knowing, in a few words.
    error : str
        Why it failed and what to do; empty if it did not.
    """

    recording: str
    state: str
    n_volumes: int | None = None
    dice: float | None = None
    transform: str = ""
    seconds: float | None = None
    message: str = ""
    error: str = ""


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
                row.message,
            )
            for row in self.rows
        ]
        header = ("recording", "state", "volumes", "Dice", "transform", "seconds", "message")
        return table(header, cells)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with columns of equal width."""
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
