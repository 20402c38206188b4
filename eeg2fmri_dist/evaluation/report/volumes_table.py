"""Scores of each volume alone, as a table beside the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from eeg2fmri_dist.evaluation.results import ReportInput
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.files.atomic import write_text

_PLACES = ("model", "variant", "subject", "recording", "volume")


def write_volume_scores(report: ReportInput, path: Path) -> None:
    """Write a table of tab-separated values, one row per volume; nothing where there are none.

    Parameters
    ----------
    report : ReportInput
        What the evaluation found.
    path : Path
        Columns: model (none for baselines), variant, subject, recording and volume (from 0, among
        those that were scored), and the scores of `metrics.RecordingScores.volumes`; ``n/a`` for
        what was not computed.
    """
    ways = [(run.name, row) for run in report.runs for row in run.rows]
    ways += [("n/a", row) for row in report.baselines]
    scored = [(model, row) for model, row in ways if row.volumes]
    if not scored:
        return
    names = tuple(scored[0][1].volumes[0][1])
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow((*_PLACES, *names))
    for model, row in scored:
        table.writerows((model, row.name, *cells) for cells in _cells(row, names))
    write_text(path, text.getvalue())


def _cells(row: ScoreRow, names: tuple[str, ...]) -> Iterator[tuple[str | int, ...]]:
    for recording, (subject, scores) in enumerate(row.volumes):
        for volume, values in enumerate(zip(*(scores[name] for name in names), strict=True)):
            shown = ("n/a" if math.isnan(value) else f"{value:.6g}" for value in values)
            yield (subject, recording, volume, *shown)
