"""metrics.json: an evaluation as other programs read it, written here and read again here.

What this suite reads back has fields of its own; tables for readers are never searched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.names.former_names import with_current_scores
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.evaluation.results import (
    AdaptedScore,
    CalibratedScore,
    DataFacts,
    Origin,
    ReportInput,
    RunSection,
)
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.significance import Interval, RegionTest
from eeg2fmri_dist.evaluation.verdict import Verdict, verdict
from eeg2fmri_dist.files.made_from import read_record
from eeg2fmri_dist.pages.figure import Curve
from eeg2fmri_dist.scores.catalog import SCORES

METRICS = "metrics.json"
FORMAT, FORMAT_VERSION = "eeg2fmri-metrics", 2
_LEAKING = " (leaking split: test subjects are in the training data)"


@dataclass(frozen=True)
class ModelScores:
    """How one model did in an evaluation.

    Attributes
    ----------
    report : ReportInput
        The whole evaluation.
    run : RunSection
        The model's part of it.
    """

    report: ReportInput
    run: RunSection

    @property
    def verdict(self) -> Verdict:
        """Whether the model uses the EEG."""
        return verdict(self.run, self.report.baselines)

    @property
    def rows(self) -> list[ScoreRow]:
        """The model with each input, then what it is compared with."""
        return [*self.run.rows, *self.report.baselines]


def find_scores(path: Path, weights_sha256: str) -> ModelScores | None:
    """Return how a model did in an evaluation; None if nothing says so.

    Parameters
    ----------
    path : Path
        A metrics.json or the folder of one; it need not be there.
    weights_sha256 : str
        Hash (hex) of the model's weights.

    Raises
    ------
    DataError
        If the file is there and is not an evaluation.
    """
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        return None
    report = read_report(path)
    for run in report.runs:
        if run.weights_sha256 and weights_sha256.startswith(run.weights_sha256):
            return ModelScores(report, run)
    return None


def require_scores(path: Path, weights_sha256: str) -> ModelScores:
    """Return how a model did in the evaluation that the user named (see `find_scores`).

    Raises
    ------
    ConfigError
        If it is not there, or does not tell of these weights.
    DataError
        If it is not an evaluation.
    """
    found = find_scores(path, weights_sha256)
    if found is None:
        there = path.is_file() or (path / METRICS).is_file()
        raise ConfigError(
            "it holds no scores of these weights" if there else "there is no metrics.json",
            where=path,
            remedy="give metrics.json of an evaluation of this very model, or scores=null",
        )
    return found


def read_report(path: Path) -> ReportInput:
    """Read what `report.to_json` wrote, without figures.

    Parameters
    ----------
    path : Path
        metrics.json, or the folder that holds it.

    Returns
    -------
    ReportInput

    Raises
    ------
    DataError
        If it is not there, or not of this version.
    """
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            "no evaluation is there",
            where=path,
            remedy="give metrics.json of launch/evaluate.py, or its folder",
        )
    try:
        return _report(_current(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not an evaluation of this version ({' '.join(str(error).split())})",
            where=path,
            remedy="give metrics.json of launch/evaluate.py, or its folder",
        ) from None


def read_content(path: Path) -> dict[str, Any]:
    """Return what a metrics.json holds, by today's names; empty where it is missing or damaged."""
    content = read_record(path)
    try:
        return _current(content)
    except (ValueError, KeyError, TypeError):
        return {}


def _current(content: dict[str, Any]) -> dict[str, Any]:
    """Content of any version as this one writes it."""
    if content["format"] != FORMAT or content["version"] not in (1, FORMAT_VERSION):
        raise ValueError(f"it is {content['format']} {content['version']}")
    if content["version"] == FORMAT_VERSION:
        return content
    for run in content["runs"]:
        run["recipe"] = "default" if run["recipe"] == "own" else run["recipe"]
    return with_current_scores(content)


def _report(content: Mapping[str, Any]) -> ReportInput:
    known = {field.name for field in fields(DataFacts)}
    facts = {name: value for name, value in content["data"].items() if name in known}
    facts |= {"origin": Origin(facts["origin"]), "grid": tuple(facts["grid"])}
    data = DataFacts(**facts)
    return ReportInput(
        title=content.get("report_title") or _former_title(content["title"], data),
        data=data,
        runs=[_run(run) for run in content["runs"]],
        baselines=_rows(content["baselines"]),
        provenance=content["provenance"],
        made_from=content.get("made_from", {}),
    )


def _former_title(full_title: str, data: DataFacts) -> str:
    """Title in a file that has the full one alone."""
    return full_title.removesuffix(_LEAKING).removesuffix(f": {data.origin}")


def _run(content: Mapping[str, Any]) -> RunSection:
    return RunSection(
        name=content["name"],
        recipe=content["recipe"],
        model=content["model"],
        parameters=content["parameters"],
        rows=_rows(content["variants"]),
        curves=[
            Curve(curve["label"], _points(curve["train"]), _points(curve["validation"]))
            for curve in content["curves"]
        ],
        chosen_epoch=content["chosen_epoch"],
        facts={name: text for name, text in content["facts"].items() if name != "Weights"},
        calibrated=[
            CalibratedScore(**_intervals(score)) for score in content.get("calibrated", ())
        ],
        adapted=[AdaptedScore(**_intervals(score)) for score in content.get("adapted", ())],
        weights_sha256=content.get("weights_sha256", content["facts"].get("Weights", "")),
    )


def _intervals(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _interval(value) if isinstance(value, Mapping) else value
        for name, value in content.items()
    }


def _interval(content: Mapping[str, Any]) -> Interval:
    mean, low, high = (_number(content[key]) for key in ("mean", "low", "high"))
    return Interval(mean, low, high, content["n"], content["method"])


def _rows(content: Mapping[str, Any]) -> list[ScoreRow]:
    return [_row(name, row) for name, row in content.items()]


def _row(name: str, content: Mapping[str, Any]) -> ScoreRow:
    subjects: dict[str, dict[str, float]] = {}
    for score, values in content["scores"].items():
        for subject, value in values["subjects"].items():
            subjects.setdefault(subject, {})[score] = _number(value)
    regions, regional = content.get("regions"), {}
    if regions:
        regional = {who: tuple(map(_number, r)) for who, r in regions.get("subjects", {}).items()}
        regions = RegionTest(*(tuple(map(_number, regions[key])) for key in ("r", "p", "q")))
    return ScoreRow(name, subjects, content["p_value"], regions, regional)


def _points(points: Sequence[Sequence[float | None]]) -> list[tuple[float, float]]:
    return [(_number(epoch), _number(value)) for epoch, value in points]


def _number(value: float | None) -> float:
    """JSON has no number that is not finite."""
    return float("nan") if value is None else float(value)


def to_json(report: ReportInput) -> dict[str, Any]:
    """Return the content of metrics.json.

    Parameters
    ----------
    report : ReportInput
        What the evaluation found.

    Returns
    -------
    dict
        ``format``, ``version``; ``title`` (as shown) and ``report_title`` (as given); ``data``:
        origin, split, subjects, store (see `results.DataFacts`); ``scores``: score name -> label,
        unit, meaning; ``runs``; ``baselines``; ``provenance``; ``made_from``.

        A run has name, recipe, model, parameters, ``weights_sha256``, facts, chosen_epoch,
        ``verdict`` (answer, finding, sentence, notes), ``gain_over_shifted`` (of r_region),
        ``regions_over_shifted`` (the same for each region, `significance.sign_flip_test`),
        ``variants``, ``calibrated`` (PSNR with calibration scans, see `results.CalibratedScore`),
        ``adapted`` (r when they moved the model toward the subject, see `results.AdaptedScore`) and
        ``curves``. ``variants`` and ``baselines`` map a name to label, p_value, ``regions`` (r, p
        and q of each, and r of ``subjects``) and ``scores``: score name -> mean, low, high, n,
        method (95 % interval over subjects) and ``subjects`` (subject -> value). Numbers that are
        not finite are null.
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "title": report.full_title,
        "report_title": report.title,
        "data": {**vars(report.data), "origin": report.data.origin.value},
        "scores": {
            name: {"label": score.label, "unit": score.unit, "meaning": score.meaning}
            for name, score in SCORES.items()
        },
        "runs": [_run_json(run, report.baselines) for run in report.runs],
        "baselines": {row.name: _row_json(row) for row in report.baselines},
        "provenance": dict(report.provenance),
        "made_from": dict(report.made_from),
    }
    return without_nonfinite(content)


def _run_json(run: RunSection, baselines: Sequence[ScoreRow]) -> dict[str, Any]:
    decided = verdict(run, baselines)
    over, by_region = run.gain_over_shifted, run.regions_over_shifted
    return {
        "name": run.name,
        "recipe": run.recipe,
        "model": run.model,
        "parameters": run.parameters,
        "weights_sha256": run.weights_sha256,
        "facts": dict(run.facts),
        "chosen_epoch": run.chosen_epoch,
        "verdict": {
            "answer": decided.answer,
            "finding": decided.finding.value,
            "sentence": decided.sentence,
            "notes": decided.notes,
        },
        "gain_over_shifted": None if over is None else _interval_json(over),
        "regions_over_shifted": None if by_region is None else vars(by_region),
        "variants": {row.name: _row_json(row) for row in run.rows},
        "calibrated": [_with_intervals(score) for score in run.calibrated],
        "adapted": [_with_intervals(score) for score in run.adapted],
        "curves": [_curve_json(curve) for curve in run.curves if curve.train or curve.validation],
    }


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
