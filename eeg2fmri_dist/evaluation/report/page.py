"""The evaluation as one self-contained HTML page, and as metrics.json."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eeg2fmri_dist.evaluation.labels import format_p, format_score, title_among
from eeg2fmri_dist.evaluation.metrics_file import to_json
from eeg2fmri_dist.evaluation.report.volumes_table import write_volume_scores
from eeg2fmri_dist.evaluation.results import ReportInput, RunSection
from eeg2fmri_dist.evaluation.significance import SMALLEST_BOOTSTRAP, smallest_sign_flip_p
from eeg2fmri_dist.evaluation.verdict import Finding, Verdict, verdict
from eeg2fmri_dist.files.atomic import write_json, write_text
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.scores.catalog import SCORES

MAIN_SCORES = (
    "r_region",
    "ceiling_normalized_r2",
    "r_voxel",
    "std_ratio",
    "fc_similarity",
    "psnr_zscore_db",
    "ssim2d_zscore",
    "psnr_minmax_db",
    "ssim2d_minmax",
)
# Beside the main scores: of change over time; the rest is of images.
_TIME_SCORES = (
    "r_region_gsr",
    "ev_region",
    "ev_voxel",
    "fc_distance",
    "identification_accuracy",
    "coherence",
    "lag_trs",
    "r_at_lag",
    "noncausal_fraction",
)
_SUBJECT_SCORES = ("std_ratio", "psnr_zscore_db", "ssim2d_minmax")
_OVERVIEW_LABEL = "r of regional means with the truth"


def write_report(report: ReportInput, folder: Path) -> None:
    """Write ``report.html``, ``metrics.json``, ``volumes.tsv``, each whole or not at all."""
    write_volume_scores(report, folder / "volumes.tsv")
    write_json(folder / "metrics.json", to_json(report))
    write_text(folder / "report.html", render_html(report))


def render_html(report: ReportInput) -> str:
    """Return the page: figures, style and numbers in one file that loads nothing else."""
    filters: dict[str, Callable[..., Any]] = {
        "number": format_score,
        "p_value": format_p,
        "run_title": functools.partial(title_among, report.runs),
        "smallest_p": lambda n: f"{smallest_sign_flip_p(n):.2g}",
        "sort_by": lambda places, values: sorted(places, key=lambda at: -values[at]),
        "lower_first": lambda text: text[:1].lower() + text[1:],
    }
    return render("eeg2fmri_dist/evaluation/report/report.html.j2", _view(report), filters)


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return the answer for all runs in one sentence."""
    asked = [item for item in verdicts if item.finding is not Finding.NO_EEG_INPUT]
    if not asked:
        return "No model here takes EEG."
    counts = {
        answer: sum(item.answer == answer for item in asked)
        for answer in ("Yes", "Yes, but", "No", "Cannot tell")
    }
    if len(asked) == 1:
        return f"{asked[0].answer.partition(',')[0]}: the model {asked[0].finding.value}."
    texts = [f"{answer.lower()} for {count}" for answer, count in counts.items() if count]
    text = f"{', '.join(texts)} of {len(asked)} models."
    return text[0].upper() + text[1:]


def _view(report: ReportInput) -> dict[str, Any]:
    """What the template shows."""
    from eeg2fmri_dist.evaluation.report import figures

    verdicts = [(run, verdict(run, report.baselines)) for run in report.runs]
    groups = [figures.ChartGroup(title_among(report.runs, run), run.rows) for run in report.runs]
    asked = [group for group, run in zip(groups, report.runs, strict=True) if run.row("eeg_only")]
    controls = []
    if report.baselines:
        controls = [figures.ChartGroup("For comparison", report.baselines)]
    overview = None
    if asked:
        overview = figures.correlation_chart([*asked, *controls], "r_region", _OVERVIEW_LABEL)
    every_row = [row for run in report.runs for row in run.rows] + list(report.baselines)
    present = {name for row in every_row for scores in row.subjects.values() for name in scores}
    return {
        "report": report,
        "zip": zip,
        "verdicts": verdicts,
        "over_shifted": [run.regions_over_shifted for run in report.runs],
        "headline": headline([item for _, item in verdicts]),
        "overview": overview,
        "groups": [*groups, *controls],
        "scores": SCORES,
        "main_scores": [name for name in MAIN_SCORES if name in present],
        "time_scores": [name for name in _TIME_SCORES if name in present],
        "image_scores": [
            name for name in SCORES if name in present.difference(MAIN_SCORES, _TIME_SCORES)
        ],
        "subject_scores": _SUBJECT_SCORES,
        "learning_curves": [_learning_curves(run) for run in report.runs],
        "explained_rows": list({row.name: row for row in every_row}.values()),
        "interval_note": (
            f"expanded percentile bootstrap over subjects (Hesterberg 2015), Student's t below "
            f"{SMALLEST_BOOTSTRAP} subjects, where a bootstrap is too narrow (of the logarithm for "
            "ratios and squared errors, which cannot be negative)."
        ),
    }


def _learning_curves(run: RunSection) -> list[Figure]:
    from eeg2fmri_dist.evaluation.report import figures

    return [
        figures.learning_curve(curve, run.chosen_epoch)
        for curve in run.curves
        if curve.train or curve.validation
    ]
