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
from eeg2fmri_dist.evaluation.scored_set import TestRecording, TestSet, read_test_set
from eeg2fmri_dist.evaluation.significance import Interval, subject_interval
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.learning_curves.task import LearningCurves

NAME = "landmarks.json"


@dataclass(frozen=True)
class Landmark:
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
        ``psnr_paper_db`` of metrics.json.
    """

    condition: str
    label: str
    r: Interval
    specific: Interval
    psnr_db: Interval


def find_landmarks(
    curves: LearningCurvesConfig, task: LearningCurves, folder: SweepFolder
) -> dict[str, dict[str, Scores]]:
    """Return condition -> key of `BASELINES` -> score -> test subject -> value.

    Of the mean image of all training subjects, of the last true volume and, where ``truth`` is
    given, of the noise ceiling; the scores of `evaluation.regional.score_volumes`. Kept in
    ``landmarks.json``, because it takes a while.

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
            found[name] = _score_landmarks(condition, base)
            write_json(path, found)
    return found


def ceiling_of(landmarks: Mapping[str, Scores]) -> dict[str, float]:
    """Return subject -> r of the noise ceiling in a condition; empty where it is not known."""
    return landmarks["ceiling"]["r_region"] if "ceiling" in landmarks else {}


def summarise_landmarks(found: Mapping[str, Mapping[str, Scores]]) -> list[Landmark]:
    """Return means over subjects and 95 % intervals of what `find_landmarks` found."""
    return [
        Landmark(
            condition,
            BASELINES[key].label,
            *(
                subject_interval([*scores[name].values()])
                for name in ("r_region", "r_specific", "psnr_paper_db")
            ),
        )
        for condition, of_condition in found.items()
        for key, scores in of_condition.items()
    ]


def _score_landmarks(condition: ConditionConfig, base: TrainConfig) -> dict[str, Scores]:
    store = Store(condition.store)
    fractions = condition.fractions or base.split.fractions
    split = make_split(store.recordings, base.split.model_copy(update={"fractions": fractions}))
    test_set = read_test_set(store, split)
    reference = test_set.scaling.reference
    predictions: dict[str, Callable[[TestRecording], np.ndarray]] = {
        "training_mean": lambda recording: np.broadcast_to(reference, recording.true.shape),
        "last_volume": lambda recording: last_volume(recording.true),
    }
    if condition.truth is not None:
        predictions["ceiling"] = Ceiling(condition.truth, store.layout, reference)
    return {key: _score(predict, test_set) for key, predict in predictions.items()}


def _score(predict: Callable[[TestRecording], np.ndarray], test_set: TestSet) -> Scores:
    return score_by_subject(
        test_set, lambda recording: score_volumes(predict(recording), test_set, recording)
    )
