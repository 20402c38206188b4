"""The table of learning curves as Markdown, for a README or a paper's supplement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eeg2fmri_dist.evaluation.significance import Interval
from eeg2fmri_dist.sweep.learning_curves.table import CurvePoint

if TYPE_CHECKING:
    from eeg2fmri_dist.sweep.learning_curves.baselines import BaselineScore

_COLUMNS = (
    *("condition", "subjects", "model", "r", "of ceiling", "circularly shifted EEG", "no global"),
    *("noise-free", "shared noise", "std ratio", "PSNR, dB"),
)


def as_markdown(
    points: Sequence[CurvePoint], baselines: Sequence[BaselineScore], reference: str | None
) -> str:
    """Return a table with a row for each point: means over test subjects and 95 % intervals.

    Parameters
    ----------
    points : sequence of CurvePoint
        In the order of the rows.
    baselines : sequence of BaselineScore
        Predictions without a model, above the points of their condition.
    reference : str or None
        Name of the model that the last column compares with; None = no such column.
    """
    head = [*_COLUMNS, *([f"r above {reference}"] if reference else [])]
    rows = []
    for condition in dict.fromkeys(point.condition for point in points):
        rows += [_baseline_row(mark) for mark in baselines if mark.condition == condition]
        rows += [_row(point) for point in points if point.condition == condition]
    lines = [head, ["---"] * len(head), *(row[: len(head)] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(point: CurvePoint) -> list[str]:
    alone = [point.driven, point.shared_noise, point.std_ratio]
    return [
        _plain(point.condition),
        str(point.train_subjects),
        point.model,
        _with_interval(point.r),
        _mean(point.share),
        _mean(point.shifted),
        _with_interval(point.specific),
        *map(_mean, alone),
        _number(point.psnr_db.mean, ".1f"),
        "" if point.against is None else _with_interval(point.against, "+.3f"),
    ]


def _baseline_row(mark: BaselineScore) -> list[str]:
    r = [_with_interval(mark.r), "", "", _with_interval(mark.specific)]
    blank = ["", "", ""]
    psnr = _number(mark.psnr_db.mean, ".1f")
    return [_plain(mark.condition), "", mark.label.lower(), *r, *blank, psnr, ""]


def _plain(condition: str) -> str:
    return condition.replace("_", " ")


def _mean(interval: Interval | None) -> str:
    return "" if interval is None else _number(interval.mean)


def _with_interval(interval: Interval, how: str = ".2f") -> str:
    mean = _number(interval.mean, how)
    if not interval.known or interval.low == interval.high == 0:
        return mean
    return f"{mean} ({_number(interval.low, how)} to {_number(interval.high, how)})"


def _number(value: float, how: str = ".2f") -> str:
    return f"{value:{how}}".replace("-", "\u2212")
