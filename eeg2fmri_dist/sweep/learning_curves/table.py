"""What learning curves show: scores over test subjects, against chance and the reference model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eeg2fmri_dist.config.names.former_names import with_current_scores
from eeg2fmri_dist.config.sweep import LearningCurvesConfig
from eeg2fmri_dist.evaluation.evidence import GLOBAL_SHARE
from eeg2fmri_dist.evaluation.significance import Interval, subject_interval
from eeg2fmri_dist.sweep.learning_curves.task import SCORES, LearningCurves

BySubject = dict[str, float]
_SMALLEST_CEILING = 0.05


@dataclass(frozen=True)
class CurvePoint:
    """A model with so many training subjects in a condition, scored on the test subjects.

    Each subject's score is the mean over seeds; intervals are those of
    `significance.subject_interval`.

    Attributes
    ----------
    condition, model : str
        Which.
    train_subjects, seeds : int
        How many.
    r, shifted, specific : Interval
        Mean r of regions with true and with circularly shifted EEG, and without the global signal
        (`scores.temporal.without_global`).
    gain, specific_gain : Interval
        r above that with circularly shifted EEG, subject by subject; the same without the global
        signal.
    std_ratio, psnr_db : Interval
        ``std_ratio`` and ``psnr_zscore_db`` of metrics.json.
    against, specific_against : Interval or None
        r above that of the reference model, subject by subject; the same without the global
        signal. None for the reference itself.
    driven, shared_noise : Interval or None
        r with the noise-free BOLD that the EEG shows, and r of the prediction's global signal with
        the noise that BOLD and EEG share; None where the truth is not known.
    driven_against : Interval or None
        ``driven`` above that of the reference, subject by subject.
    share : Interval or None
        r as a share of the noise ceiling; None where it is not known or nothing can be known.
    """

    condition: str
    model: str
    train_subjects: int
    seeds: int
    r: Interval
    shifted: Interval
    specific: Interval
    gain: Interval
    specific_gain: Interval
    std_ratio: Interval
    psnr_db: Interval
    against: Interval | None
    specific_against: Interval | None
    driven: Interval | None
    shared_noise: Interval | None
    driven_against: Interval | None
    share: Interval | None

    def in_words(self) -> str:
        """Say what the numbers support."""
        if not self.gain.known:
            return "too few test subjects to tell"
        if self.r.low <= 0 <= self.r.high:
            return f"r not different from 0 ({_span(self.r)})"
        if self.gain.low <= 0:
            return f"not clearly better than with circularly shifted EEG ({_span(self.gain)})"
        if _is_gone(self.specific_gain, self.gain):
            return (
                "follows the EEG in the global signal alone, as breathing and movement would; "
                "without it not different from circularly shifted EEG "
                f"({_span(self.specific_gain)})"
            )
        return f"follows the EEG{self._beside_reference()}"

    def _beside_reference(self) -> str:
        against, specific = self.against, self.specific_against
        if against is None or specific is None or against.low <= 0 <= against.high:
            return ""
        if against.high < 0:
            return f", worse than the reference ({_span(against)})"
        where = " in the global signal alone" if _is_gone(specific, against) else ""
        return f", better than the reference{where} ({_span(against)})"


def summarize_curves(
    curves: LearningCurvesConfig,
    task: LearningCurves,
    ceilings: Mapping[str, BySubject],
) -> list[CurvePoint]:
    """Return the points whose trials have all been scored, by condition, subjects and model.

    Parameters
    ----------
    curves : LearningCurvesConfig
        What was asked for.
    task : LearningCurves
        Its trials.
    ceilings : mapping of str to dict
        Condition -> subject -> r of the noise-free BOLD that the EEG shows.
    """
    scored: dict[tuple[str, int, str], list[dict[str, BySubject] | None]] = {}
    for point, run in task.runs():
        key = (point["condition"], point["train_subjects"], point["model"])
        scored.setdefault(key, []).append(_read(run / SCORES))
    means = {
        key: _mean_over_seeds([scores for scores in runs if scores is not None])
        for key, runs in scored.items()
        if None not in runs
    }
    reference = curves.reference or ""
    conditions, models = list(curves.conditions), list(curves.models)

    def place(key: tuple[str, int, str]) -> tuple[int, int, int]:
        condition, count, model = key
        return conditions.index(condition), count, models.index(model)

    return [
        _point(key, len(scored[key]), means[key], means.get((*key[:2], reference)), ceilings)
        for key in sorted(means, key=place)
    ]


def as_json(points: Sequence[CurvePoint], baselines: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``learning_curves.json`` holds."""
    return {
        "baselines": dict(baselines),
        "points": [asdict(point) | {"in_words": point.in_words()} for point in points],
    }


def _point(
    key: tuple[str, int, str],
    seeds: int,
    scores: dict[str, BySubject],
    reference: dict[str, BySubject] | None,
    ceilings: Mapping[str, BySubject],
) -> CurvePoint:
    condition, count, model = key
    r, ceiling = scores["r_region"], ceilings.get(condition, {})
    others = None if reference is scores else reference
    reachable = {subject: r for subject, r in ceiling.items() if r >= _SMALLEST_CEILING}
    return CurvePoint(
        condition,
        model,
        count,
        seeds,
        r=_interval(r),
        shifted=_interval(scores["r_region_shifted"]),
        specific=_interval(scores["r_region_gsr"]),
        gain=_difference(r, scores["r_region_shifted"]),
        specific_gain=_difference(scores["r_region_gsr"], scores["r_region_gsr_shifted"]),
        std_ratio=subject_interval([*scores["std_ratio"].values()], scale="log"),
        psnr_db=_interval(scores["psnr_zscore_db"]),
        against=None if others is None else _difference(r, others["r_region"]),
        specific_against=None
        if others is None
        else _difference(scores["r_region_gsr"], others["r_region_gsr"]),
        driven=_interval(scores["r_driven"]) if "r_driven" in scores else None,
        shared_noise=_interval(scores["r_shared_noise"]) if "r_shared_noise" in scores else None,
        driven_against=_difference(scores["r_driven"], others["r_driven"])
        if others is not None and "r_driven" in scores
        else None,
        share=_interval({who: r[who] / reachable[who] for who in reachable}) if reachable else None,
    )


def _mean_over_seeds(runs: Sequence[dict[str, BySubject]]) -> dict[str, BySubject]:
    return {
        name: {who: float(np.mean([run[name][who] for run in runs])) for who in runs[0][name]}
        for name in runs[0]
    }


def _interval(by_subject: BySubject) -> Interval:
    return subject_interval([*by_subject.values()])


def _difference(first: BySubject, second: BySubject) -> Interval:
    return _interval({who: first[who] - second[who] for who in first})


def _is_gone(specific: Interval, whole: Interval) -> bool:
    """Whether little is left of a difference without the global signal, if anything."""
    return specific.low <= 0 and specific.mean < GLOBAL_SHARE * whole.mean


def _span(interval: Interval) -> str:
    return f"95 % interval {interval.low:+.3f} to {interval.high:+.3f}"


def _read(path: Any) -> Any:
    try:
        return with_current_scores(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
