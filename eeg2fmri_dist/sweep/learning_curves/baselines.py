"""What learning curves stand beside: predictions without a model, and the most that EEG shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.sweep import ConditionConfig, LearningCurvesConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.baselines.noise_ceiling import Ceiling
from eeg2fmri_dist.evaluation.reference_baselines import BASELINES, last_volume
from eeg2fmri_dist.evaluation.regional import Scores, score_by_subject, score_volumes
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording, ScoredSet, read_scored_set
from eeg2fmri_dist.evaluation.significance import Interval, subject_interval
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.learning_curves.task import LearningCurves

NAME = "baselines.json"


@dataclass(frozen=True)
class BaselineScore:
    """A prediction without a model, scored on the test subjects of a condition.

    Attributes
    ----------
    condition : str
        Which.
    label : str
        As in reports (`evaluation.baselines.BASELINES`).
    r, specific : Interval
        Mean r of regions, and without the global signal.
    psnr_db : Interval
        ``psnr_zscore_db`` of metrics.json.
    """

    condition: str
    label: str
    r: Interval
    specific: Interval
    psnr_db: Interval


def find_baselines(
    curves: LearningCurvesConfig, task: LearningCurves, folder: SweepFolder
) -> dict[str, dict[str, Scores]]:
    """Return condition -> key of `BASELINES` -> score -> test subject -> value.

    Of the mean image of all training subjects, of the last true volume and, where ``truth`` is
    given, of the noise ceiling; the scores of `evaluation.regional.score_volumes`. Kept in
    ``baselines.json``, because it takes a while.

    Raises
    ------
    DataError
        If a store or a truth cannot be read.
    """
    path = folder.root / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    base = next(iter(task.bases().values()))
    for name, condition in curves.conditions.items():
        if name not in found:
            found[name] = _score_baselines(condition, base)
            write_json(path, found)
    return found


def ceiling_of(baselines: Mapping[str, Scores]) -> dict[str, float]:
    """Return subject -> r of the noise ceiling in a condition; empty where it is not known."""
    return baselines["ceiling"]["r_region"] if "ceiling" in baselines else {}


def summarize_baselines(found: Mapping[str, Mapping[str, Scores]]) -> list[BaselineScore]:
    """Return means over subjects and 95 % intervals of what `find_baselines` found."""
    return [
        BaselineScore(
            condition,
            BASELINES[key].label,
            *(
                subject_interval([*scores[name].values()])
                for name in ("r_region", "r_region_gsr", "psnr_zscore_db")
            ),
        )
        for condition, of_condition in found.items()
        for key, scores in of_condition.items()
    ]


def _score_baselines(condition: ConditionConfig, base: TrainConfig) -> dict[str, Scores]:
    store = Store(condition.store)
    fractions = condition.fractions or base.split.fractions
    split = make_split(store.recordings, base.split.model_copy(update={"fractions": fractions}))
    scored_set = read_scored_set(store, split)
    reference = scored_set.scaling.reference
    predictions: dict[str, Callable[[ScoredRecording], np.ndarray]] = {
        "training_mean": lambda recording: np.broadcast_to(reference, recording.true.shape),
        "last_volume": lambda recording: last_volume(recording.true),
    }
    if condition.truth is not None:
        predictions["ceiling"] = Ceiling(condition.truth, store.layout, reference)
    return {key: _score(predict, scored_set) for key, predict in predictions.items()}


def _score(predict: Callable[[ScoredRecording], np.ndarray], scored_set: ScoredSet) -> Scores:
    return score_by_subject(
        scored_set, lambda recording: score_volumes(predict(recording), scored_set, recording)
    )
