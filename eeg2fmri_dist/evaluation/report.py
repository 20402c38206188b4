"""The evaluation as one self-contained HTML page, and as metrics.json."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eeg2fmri_dist.evaluation.results import (
    AdaptedScore,
    CalibratedScore,
    Curve,
    Figure,
    ReportInput,
    RunSection,
)
from eeg2fmri_dist.evaluation.score_rows import SCORES, ScoreRow, gain, regional_gain
from eeg2fmri_dist.evaluation.significance import (
    SMALLEST_BOOTSTRAP,
    Interval,
    RegionTest,
    smallest_sign_flip_p,
)
from eeg2fmri_dist.evaluation.templates import render
from eeg2fmri_dist.evaluation.verdict import Finding, Verdict, verdict
from eeg2fmri_dist.evaluation.volume_scores import write_volume_scores
from eeg2fmri_dist.files import write_json, write_text

FORMAT, FORMAT_VERSION = "eeg2fmri-metrics", 1
MAIN_SCORES = (
    "r_region",
    "explained",
    "r_voxel",
    "std_ratio",
    "fc_similarity",
    "psnr_paper_db",
    "ssim2d_paper",
    "psnr_peer_db",
    "ssim2d_peer",
)
# Beside the main scores: of change over time; the rest is of images.
_TIME_SCORES = (
    "r_specific",
    "ev_region",
    "ev_voxel",
    "fc_distance",
    "identified",
    "coherence",
    "lag_trs",
    "r_at_lag",
    "future_share",
)
_SUBJECT_SCORES = ("std_ratio", "psnr_paper_db", "ssim2d_peer")
_OVERVIEW_LABEL = "r of regional means with the truth"
MODELS = {
    "transformer": "Transformer",
    "unet": "U-Net",
    "cae": "CAE",
    "ridge": "Ridge regression",
    "ensemble": "Ensemble",
}
_RECIPES = {"paper": "paper's recipe", "own": "suite's recipe"}


def write_report(report: ReportInput, folder: Path) -> None:
    """Write ``report.html``, ``metrics.json``, ``volumes.tsv``, each whole or not at all."""
    write_volume_scores(report, folder / "volumes.tsv")
    write_json(folder / "metrics.json", to_json(report))
    write_text(folder / "report.html", render_html(report))


def to_json(report: ReportInput) -> dict[str, Any]:
    """Return the content of metrics.json.

    Parameters
    ----------
    report : ReportInput
        What the evaluation found.

    Returns
    -------
    dict
        ``format``, ``version``, ``title``; ``data``: origin, split, subjects, store (see
        `results.DataFacts`); ``scores``: score name -> label, unit, meaning; ``runs``: list of
        name, recipe, model, parameters, facts, chosen_epoch, ``verdict`` (answer, finding,
        sentence, notes), ``gain_over_shuffled`` (of r_region), ``regions_over_shuffled`` (the same
        for each region, `significance.sign_flip_test`), ``variants``, ``calibrated`` (PSNR with
        calibration scans, see `results.CalibratedScore`), ``adapted`` (r when they moved the model
        towards the person, see `results.AdaptedScore`) and ``curves``; ``baselines``;
        ``provenance``. ``variants`` and ``baselines`` map a name to label, p_value, ``regions``
        (r, p and q of each, and r of ``subjects``) and ``scores``: score name -> mean, low, high,
        n, method (95 % interval over subjects) and ``subjects`` (subject -> value). Numbers that
        are not finite are null.
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "title": report.full_title,
        "data": {**vars(report.data), "origin": report.data.origin.value},
        "scores": {
            name: {"label": score.label, "unit": score.unit, "meaning": score.meaning}
            for name, score in SCORES.items()
        },
        "runs": [_run_json(run, report.baselines) for run in report.runs],
        "baselines": {row.name: _row_json(row) for row in report.baselines},
        "provenance": dict(report.provenance),
    }
    return without_nonfinite(content)


def render_html(report: ReportInput) -> str:
    """Return the page: figures, style and numbers in one file that loads nothing else."""
    filters: dict[str, Callable[..., Any]] = {
        "number": format_score,
        "p_value": format_p,
        "run_title": functools.partial(_title_among, report.runs),
        "smallest_p": lambda n: f"{smallest_sign_flip_p(n):.2g}",
        "sort_by": lambda places, values: sorted(places, key=lambda at: -values[at]),
        "lower_first": lambda text: text[:1].lower() + text[1:],
    }
    return render("report.html.j2", filters, _view(report))


def format_score(value: float | None, name: str) -> str:
    """Return a score with the digits that it deserves, a true minus sign, ``∞`` or ``–``."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{SCORES[name].digits}f}"
    # -0.00 is 0.00.
    return f"{float(text) + 0.0:.{SCORES[name].digits}f}".replace("-", "−")


def run_title(run: RunSection) -> str:
    """Return model and recipe in words."""
    model = MODELS.get(run.model, run.model)
    return f"{model}, {_RECIPES.get(run.recipe, run.recipe)}"


def _title_among(runs: Sequence[RunSection], run: RunSection) -> str:
    """Title of a run, with its name where another one has the same title."""
    title = run_title(run)
    shared = sum(run_title(other) == title for other in runs) > 1
    return f"{title} ({run.name})" if shared else title


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
    from eeg2fmri_dist.evaluation import figures

    verdicts = [(run, verdict(run, report.baselines)) for run in report.runs]
    groups = [figures.ChartGroup(_title_among(report.runs, run), run.rows) for run in report.runs]
    asked = [group for group, run in zip(groups, report.runs, strict=True) if run.row("free")]
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
        "over_shuffled": [_over_shuffled(run) for run in report.runs],
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
    from eeg2fmri_dist.evaluation import figures

    return [
        figures.learning_curve(curve, run.chosen_epoch)
        for curve in run.curves
        if curve.train or curve.validation
    ]


def format_p(p: float | None) -> str:
    """Return a p-value for a table; empty where there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _run_json(run: RunSection, baselines: Sequence[ScoreRow]) -> dict[str, Any]:
    decided = verdict(run, baselines)
    free, shuffled = run.row("free"), run.row("shuffled")
    over_shuffled = _over_shuffled(run)
    return {
        "name": run.name,
        "recipe": run.recipe,
        "model": run.model,
        "parameters": run.parameters,
        "facts": dict(run.facts),
        "chosen_epoch": run.chosen_epoch,
        "verdict": {
            "answer": decided.answer,
            "finding": decided.finding.value,
            "sentence": decided.sentence,
            "notes": decided.notes,
        },
        "gain_over_shuffled": _interval_json(gain(free, shuffled)) if free and shuffled else None,
        "regions_over_shuffled": vars(over_shuffled) if over_shuffled else None,
        "variants": {row.name: _row_json(row) for row in run.rows},
        "calibrated": [_with_intervals(score) for score in run.calibrated],
        "adapted": [_with_intervals(score) for score in run.adapted],
        "curves": [_curve_json(curve) for curve in run.curves if curve.train or curve.validation],
    }


def _over_shuffled(run: RunSection) -> RegionTest | None:
    free, shuffled = run.row("free"), run.row("shuffled")
    return regional_gain(free, shuffled) if free and shuffled else None


def _row_json(row: ScoreRow) -> dict[str, Any]:
    names = {name: None for scores in row.subjects.values() for name in scores}
    return {
        "label": row.label,
        "p_value": row.p_value,
        "regions": {**vars(row.regions), "subjects": row.regional} if row.regions else None,
        "scores": {
            name: {**_interval_json(row.interval(name)), "subjects": row.values(name)}
            for name in names
        },
    }


def _interval_json(interval: Interval) -> dict[str, Any]:
    return dict(vars(interval))


def _with_intervals(score: CalibratedScore | AdaptedScore) -> dict[str, Any]:
    return {
        name: _interval_json(value) if isinstance(value, Interval) else value
        for name, value in vars(score).items()
    }


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {"label": curve.label, "train": curve.train, "validation": curve.validation}


def without_nonfinite(value: Any) -> Any:
    """Return a value as JSON takes it: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {key: without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nonfinite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
