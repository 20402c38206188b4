"""Scores when a few minutes of EEG and BOLD of the same subject are there to adapt to.

The first volumes of each recording, with their EEG, move the model toward the subject
(`ridge_update.fit_step`); the rest is scored. How far to move is chosen on validation subjects, on
whom the same is tried: where they are not clearly better predicted by it, nobody is adapted to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.calibration.ridge_update import fit_step, person_features
from eeg2fmri_dist.data.controls import shifted_eeg, true_eeg
from eeg2fmri_dist.data.normalization import normalize_eeg
from eeg2fmri_dist.evaluation.baselines.eeg_controls import ChangeEeg, PredictWith
from eeg2fmri_dist.evaluation.results import AdaptedScore
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording, ScoredSet
from eeg2fmri_dist.evaluation.significance import subject_interval
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.scores.networks import Regions, regional_correlation, regional_means
from eeg2fmri_dist.scores.temporal import DETREND_ORDER, detrend

logger = logging.getLogger(__name__)

PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
_CHANGES = {"true": true_eeg, "shifted": shifted_eeg}


class KeptMeans:
    """Predictions whose regional means are kept: a recording is predicted once for both.

    Parameters
    ----------
    predict : callable
        (recording, change) -> volumes (volume, x, y, z) from the recording's EEG, normalized and
        passed through `change`.
    regions : Regions
    """

    def __init__(self, predict: PredictWith, regions: Regions):
        self._predict, self._regions = predict, regions
        self._kept: dict[tuple[int, ChangeEeg], np.ndarray] = {}

    def volumes(self, recording: ScoredRecording, change: ChangeEeg) -> np.ndarray:
        """Predict volumes, and keep their means."""
        volumes = self._predict(recording, change)
        means = regional_means(volumes, self._regions.labels, len(self._regions))
        self._kept[id(recording), change] = means
        return volumes

    def means(self, recording: ScoredRecording, change: ChangeEeg) -> np.ndarray:
        """Return regional means (volume, region), predicted now or before."""
        if (id(recording), change) not in self._kept:
            self.volumes(recording, change)
        return self._kept[id(recording), change]


@dataclass(frozen=True)
class _Series:
    """A recording with true and circularly shifted EEG.

    Attributes
    ----------
    subject : str
    features, predicted : dict of str to ndarray of shape (volume, feature or region)
        Of each kind of EEG; predictions as a share of the reference image.
    true : ndarray of shape (volume, region)
        Regional means of BOLD.
    """

    subject: str
    features: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    true: np.ndarray


def score_adapted(
    trained: TrainedModel,
    predict_means: Callable[[ScoredRecording, ChangeEeg], np.ndarray],
    scored_set: ScoredSet,
    validation_set: ScoredSet,
    lengths: Sequence[int],
) -> list[AdaptedScore]:
    """Score a model that was adapted to each subject, with scans of growing length.

    Parameters
    ----------
    trained : TrainedModel
        Says how its EEG is normalized.
    predict_means : callable
        (recording, change) -> regional means (volume, region) of a prediction, such as
        `KeptMeans.means`.
    scored_set : ScoredSet
        What is scored.
    validation_set : ScoredSet
        Chooses the penalty, for each length by itself.
    lengths : sequence of int
        Volumes of the scans. The volumes after the longest are scored.

    Returns
    -------
    list of AdaptedScore
        One for each length above 1.
    """
    lengths = [length for length in lengths if length > 1]
    if not lengths:
        return []
    first = max(lengths)
    test, validation = (
        [_series(trained, predict_means, scored, recording) for recording in scored.recordings]
        for scored in (scored_set, validation_set)
    )
    validation = [series for series in validation if len(series.true) > first + DETREND_ORDER + 1]
    found = []
    for length in lengths:
        penalty = _choose(validation, length, first)
        found.append(_score(test, length, first, penalty))
    return found


def _choose(validation: Sequence[_Series], length: int, first: int) -> float | None:
    """Return the penalty that suits validation subjects best; None = no step.

    As for a verdict, the gain must be one by an interval over subjects that excludes 0.
    """
    if not validation:
        return None
    gains = {penalty: _gains(validation, length, first, penalty) for penalty in PENALTIES}
    best = max(gains, key=lambda penalty: np.mean(gains[penalty]))
    # Below three subjects there is no interval: its end is NaN.
    return best if subject_interval(gains[best]).low > 0 else None


def _gains(recorded: Sequence[_Series], length: int, first: int, penalty: float) -> list[float]:
    """How much r rises by a step, for each subject."""
    by_subject: dict[str, list[float]] = {}
    for series in recorded:
        before, after = (
            _correlation(series, "true", length, first, tried) for tried in (None, penalty)
        )
        by_subject.setdefault(series.subject, []).append(after - before)
    return [float(np.mean(values)) for values in by_subject.values()]


def _score(test: Sequence[_Series], length: int, first: int, penalty: float | None) -> AdaptedScore:
    by_subject: dict[str, list[list[float]]] = {}
    for series in test:
        values = [
            _correlation(series, "true", length, first, None),
            _correlation(series, "true", length, first, penalty),
            _correlation(series, "shifted", length, first, penalty),
        ]
        by_subject.setdefault(series.subject, []).append(values)
    means = np.array([np.mean(values, axis=0) for values in by_subject.values()])
    before, true, shifted = (subject_interval(column) for column in means.T)
    logger.info("  adapted to %3d volumes    r of regions %6.3f", length, true.mean)
    return AdaptedScore(
        length, penalty, before, true, shifted, gain=subject_interval(means[:, 1] - means[:, 0])
    )


def _correlation(
    series: _Series, eeg: str, length: int, first: int, penalty: float | None
) -> float:
    """R over the volumes from `first` on, mean over regions, after a step (None = without)."""
    predicted, true = series.predicted[eeg], series.true / series.true[:length].mean(axis=0)
    if penalty is not None:
        features = series.features[eeg]
        residual = true[:length] - predicted[:length]
        predicted = predicted + fit_step(features[:length], residual, penalty)(features)
    return regional_correlation(
        detrend(predicted[first:], DETREND_ORDER), detrend(true[first:], DETREND_ORDER)
    )


def _series(
    trained: TrainedModel,
    predict_means: Callable[[ScoredRecording, ChangeEeg], np.ndarray],
    scored: ScoredSet,
    recording: ScoredRecording,
) -> _Series:
    eeg = normalize_eeg(recording.power, trained.data, trained.scaling)
    labels, count = scored.regions.labels, len(scored.regions)
    reference = regional_means(scored.scaling.reference[None], labels, count)
    return _Series(
        subject=recording.subject,
        features={name: person_features(trained, change(eeg)) for name, change in _CHANGES.items()},
        predicted={
            name: predict_means(recording, change) / reference for name, change in _CHANGES.items()
        },
        true=regional_means(recording.true, labels, count),
    )
