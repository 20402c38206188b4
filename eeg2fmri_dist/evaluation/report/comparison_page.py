"""The comparison of models as one self-contained page, and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eeg2fmri_dist.evaluation.labels import format_p, format_score
from eeg2fmri_dist.evaluation.metrics_file import without_nonfinite
from eeg2fmri_dist.evaluation.report import figures
from eeg2fmri_dist.evaluation.report.comparison import (
    PAIRED_SCORES,
    ComparableSet,
    Comparison,
    Entry,
    PairedDifference,
)
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.files.atomic import write_json, write_text
from eeg2fmri_dist.pages.drawing import drawing, svg
from eeg2fmri_dist.pages.figure import Curve, Figure
from eeg2fmri_dist.pages.style import CYCLE
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.scores.catalog import SCORES

_TABLE_SCORES = (
    "r_region",
    "ceiling_normalized_r2",
    "r_voxel",
    "std_ratio",
    "fc_similarity",
    "psnr_minmax_db",
    "ssim2d_minmax",
)
_SHOWN_CONTROLS = ("eeg_only", "shifted", "zero", "reconstruction")
_DASHES = ("-", "--", ":")
_CHANCE = 0.05


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.html`` and ``comparison.json`` into a folder."""
    write_json(folder / "comparison.json", to_json(comparison))
    write_text(folder / "comparison.html", render_html(comparison))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return the content of comparison.json.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    dict
        ``format``, ``version``, ``title``; ``sets``: list of store, fingerprint, scored, subjects,
        remarks and ``models`` (label, source, answer, finding, training subjects and ``scores``:
        score -> mean, low, high, n, method); ``barriers``; ``differences``: list of first, second,
        remark and ``scores`` (of first - second). Numbers that are not finite are null.
    """
    content = {
        "format": "eeg2fmri-comparison",
        "version": 1,
        "title": comparison.title,
        "sets": [
            {
                "store": each.data.store,
                "fingerprint": each.data.fingerprint,
                "split": each.data.split,
                "scored": each.data.scored,
                "subjects": each.subjects,
                "remarks": list(each.remarks),
                "models": [_entry_json(entry) for entry in each.entries],
            }
            for each in comparison.sets
        ],
        "barriers": list(comparison.barriers),
        "differences": [_pair_json(pair) for pair in comparison.pairs],
    }
    return without_nonfinite(content)


def render_html(comparison: Comparison) -> str:
    """Return the page: one file that loads nothing else."""
    shown = {
        "comparison": comparison,
        "charts": [_chart(each) for each in comparison.sets],
        "curves": learning_curves(comparison.entries),
        "score_names": _present(comparison.entries),
        "paired_scores": [
            name
            for name in PAIRED_SCORES
            if any(name in pair.intervals for pair in comparison.pairs)
        ],
        "scores": SCORES,
        "found": _count_found(comparison.pairs),
    }
    return render(
        "eeg2fmri_dist/evaluation/report/comparison.html.j2",
        shown,
        {"number": format_score, "p_value": format_p},
    )


def learning_curves(entries: Sequence[Entry]) -> list[Figure]:
    """Draw one quantity a figure, the validation curves of all models in it."""
    labels = dict.fromkeys(
        curve.label
        for entry in entries
        for curve in entry.model_scores.run.curves
        if len(curve.validation) > 1
    )
    return [_curve_figure(label, entries) for label in labels]


def _curve_figure(label: str, entries: Sequence[Entry]) -> Figure:
    styles = itertools.cycle(itertools.product(_DASHES, CYCLE))
    drawn = []
    with drawing(4.6, 2.6 + 0.15 * len(entries)) as canvas:
        axes = canvas.subplots()
        for entry, (dashes, color) in zip(entries, styles, strict=False):
            points = _validation(entry.model_scores.run.curves, label)
            if len(points) < 2:
                continue
            epochs, values = np.asarray(points, dtype=float).T
            axes.plot(epochs, values, color=color, linestyle=dashes, label=entry.label)
            drawn.append(f"{entry.label} ends at {values[-1]:.3g}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        canvas.legend(fontsize=7, loc="outside lower left")
        data = svg(canvas)
    note = "Each model's own target: losses of different targets are not comparable."
    return Figure(
        f"Validation {label}",
        note if label == "loss" else "",
        f"{label} of validation subjects over epochs. {'; '.join(drawn)}.",
        data,
        "image/svg+xml",
    )


def _validation(curves: Sequence[Curve], label: str) -> Sequence[tuple[float, float]]:
    return next((curve.validation for curve in curves if curve.label == label), ())


def _chart(each: ComparableSet) -> Figure | None:
    groups = [
        figures.ChartGroup(entry.label, _controls(entry))
        for entry in each.entries
        if entry.model_scores.run.row("eeg_only")
    ]
    if not groups:
        return None
    groups += [figures.ChartGroup(title, rows) for title, rows in each.baselines]
    return figures.correlation_chart(groups, "r_region", "r of regions")


def _controls(entry: Entry) -> list[ScoreRow]:
    return [row for row in entry.model_scores.run.rows if row.name in _SHOWN_CONTROLS]


def _present(entries: Sequence[Entry]) -> list[str]:
    names = {name for entry in entries for name in next(iter(entry.row.subjects.values()), {})}
    return [name for name in _TABLE_SCORES if name in names]


def _count_found(pairs: Sequence[PairedDifference]) -> dict[str, float]:
    """How many intervals exclude 0, of how many, and how many would by chance."""
    known = [interval for pair in pairs for interval in pair.intervals.values() if interval.known]
    found = sum(interval.low > 0 or interval.high < 0 for interval in known)
    return {"found": found, "known": len(known), "chance": _CHANCE * len(known)}


def _entry_json(entry: Entry) -> dict[str, Any]:
    verdict = entry.model_scores.verdict
    names = {name: None for scores in entry.row.subjects.values() for name in scores}
    return {
        "label": entry.label,
        "source": str(entry.source),
        "answer": verdict.answer,
        "finding": verdict.finding.value,
        "trained_on": list(entry.data.train),
        "leaks": entry.data.leaks,
        "p_value": entry.row.p_value,
        "scores": {name: vars(entry.row.interval(name)) for name in names},
    }


def _pair_json(pair: PairedDifference) -> dict[str, Any]:
    return {
        "first": pair.first.label,
        "second": pair.second.label,
        "remark": pair.remark,
        "scores": {name: vars(interval) for name, interval in pair.intervals.items()},
    }
