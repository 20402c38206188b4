"""Learning curves as a table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from eeg2fmri_dist.sweep.learning_curves.baselines import BaselineScore
from eeg2fmri_dist.sweep.learning_curves.table import CurvePoint
from eeg2fmri_dist.sweep.monitoring.status import WIDEST


def print_curves(
    points: Sequence[CurvePoint], baselines: Sequence[BaselineScore], reference: str | None
) -> None:
    """Print the table of learning curves: mean and 95 % interval over test subjects."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (
        "condition",
        "subjects",
        "model",
        "r",
        "of ceiling",
        "shifted",
        "no global",
        "noise-free",
        "shared noise",
    ):
        table.add_column(name, no_wrap=True)
    table.add_column("std")
    table.add_column(f"above {reference}" if reference else "", no_wrap=True)
    table.add_column("in words", overflow="fold")
    for mark in baselines:
        r, specific = f"{mark.r.mean:.3f}", f"{mark.specific.mean:.3f}"
        table.add_row(mark.condition, "", mark.label, r, "", "", specific)
    for point in points:
        cells = [point.r, point.share, point.shifted, point.specific]
        cells += [point.driven, point.shared_noise, point.std_ratio]
        texts = ["" if cell is None else f"{cell.mean:.3f}" for cell in cells]
        above = point.against
        table.add_row(
            *(point.condition, str(point.train_subjects), point.model, *texts),
            "" if above is None else f"{above.mean:+.3f} [{above.low:+.3f}, {above.high:+.3f}]",
            point.in_words(),
        )
    Console(width=None if sys.stdout.isatty() else WIDEST).print(table)
