"""The table of learning curves as Markdown, for a README or a paper's supplement."""

from __future__ import annotations

from collections.abc import Sequence

from eeg2fmri_dist.evaluation.significance import Interval
from eeg2fmri_dist.sweep.curves_table import CurvePoint


def as_markdown(points: Sequence[CurvePoint], reference: str | None) -> str:
    """Return a table with a row for each point: means over test subjects and 95 % intervals.

    Parameters
    ----------
    points : sequence of CurvePoint
        In the order of the rows.
    reference : str or None
        Name of the model that the last column compares with; None = no such column.
    """
    head = ["condition", "subjects", "model", "r", "of ceiling", "shuffled EEG", "no global"]
    head += ["noise-free", "shared noise", "std ratio"]
    head += [f"r above {reference}"] if reference else []
    rows = [_row(point)[: len(head)] for point in points]
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(point: CurvePoint) -> list[str]:
    alone = [point.driven, point.shared_noise, point.std_ratio]
    return [
        point.condition.replace("_", " "),
        str(point.train_subjects),
        point.model,
        _with_interval(point.r),
        _mean(point.share),
        _mean(point.shuffled),
        _with_interval(point.specific),
        *map(_mean, alone),
        "" if point.against is None else _with_interval(point.against, "+.3f"),
    ]


def _mean(interval: Interval | None) -> str:
    return "" if interval is None else _number(interval.mean)


def _with_interval(interval: Interval, how: str = ".2f") -> str:
    mean = _number(interval.mean, how)
    if not interval.known:
        return mean
    return f"{mean} ({_number(interval.low, how)} to {_number(interval.high, how)})"


def _number(value: float, how: str = ".2f") -> str:
    return f"{value:{how}}".replace("-", "\u2212")
