"""Scores on the scale of images when a short scan of the same subject is there.

Without one, a prediction moves around the mean image of the training subjects, whose anatomy is
not this subject's, and PSNR measures the anatomy. With a few volumes of the subject their mean
takes its place. They need no EEG. They also tell how much each voxel of the subject changes; that
is used where validation subjects were better with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.calibration.voxel_scale import voxel_scale
from eeg2fmri_dist.data.controls import shifted_eeg, true_eeg
from eeg2fmri_dist.data.normalization import around
from eeg2fmri_dist.evaluation.baselines.eeg_controls import PredictWith
from eeg2fmri_dist.evaluation.results import CalibratedScore
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording, ScoredSet
from eeg2fmri_dist.evaluation.significance import Interval, subject_interval
from eeg2fmri_dist.scores.metrics import psnr

logger = logging.getLogger(__name__)

LARGEST_SHARE = 1 / 2  # of a recording that may serve as the scan; the rest is scored


def usable_lengths(lengths: Sequence[int], scored_set: ScoredSet) -> list[int]:
    """Return the lengths that leave half of every recording to be scored, shortest first."""
    shortest = min(len(recording.true) for recording in scored_set.recordings)
    usable = sorted({length for length in lengths if length <= LARGEST_SHARE * shortest})
    left_out = sorted(set(lengths) - set(usable))
    if left_out:
        logger.info(
            "no calibration scan of %s volumes: the shortest recording has %d",
            ", ".join(map(str, left_out)),
            shortest,
        )
    return usable


def score_calibrated(
    predict: PredictWith,
    fraction: np.ndarray,
    scored_set: ScoredSet,
    lengths: Sequence[int],
    validation_set: ScoredSet | None = None,
) -> list[CalibratedScore]:
    """Score a model with calibration scans of growing length, on the same volumes each time.

    Parameters
    ----------
    predict : callable
        (recording, change) -> volumes (volume, x, y, z) from the recording's EEG, normalized and
        passed through `change`.
    fraction : ndarray of shape (x, y, z)
        `Scaling.fraction` of the model: the size of the changes that it predicts.
    scored_set : ScoredSet
        What is scored.
    lengths : sequence of int
        Volumes of the scans. The volumes after the longest are scored.
    validation_set : ScoredSet or None
        Chooses whether the scan scales each voxel's change, for each length by itself; None = it
        does not.

    Returns
    -------
    list of CalibratedScore
        One for each length.
    """
    if not lengths:
        return []
    first = max(lengths)
    chosen = dict.fromkeys(lengths, False)
    if validation_set is not None:
        tried = _psnr_by_length(predict, fraction, validation_set, lengths, first)
        chosen = {length: _is_better_scaled(rows) for length, rows in tried.items()}
    found = _psnr_by_length(predict, fraction, scored_set, lengths, first)
    return [_score(length, found[length], chosen[length]) for length in lengths]


@dataclass(frozen=True)
class _Psnr:
    """PSNR (dB) of one recording with a scan: as it is, and with each voxel scaled by the scan."""

    subject: str
    mean_image: float
    true_eeg: tuple[float, float]
    shifted_eeg: tuple[float, float]


def _psnr_by_length(
    predict: PredictWith,
    fraction: np.ndarray,
    scored: ScoredSet,
    lengths: Sequence[int],
    first: int,
) -> dict[int, list[_Psnr]]:
    """Return length -> PSNR of each recording that is longer than the longest scan."""
    found: dict[int, list[_Psnr]] = {length: [] for length in lengths}
    for recording in scored.recordings:
        if len(recording.true) <= first:
            continue
        both = [predict(recording, change) for change in (true_eeg, shifted_eeg)]
        reference = scored.scaling.reference
        for length in lengths:
            scan = recording.true[:length]
            scale = voxel_scale(scan, fraction) if length else 1.0
            found[length].append(_psnr(recording, both, scan, scale, first, reference))
    return found


def _psnr(
    recording: ScoredRecording,
    predicted: Sequence[np.ndarray],
    scan: np.ndarray,
    scale: np.ndarray | float,
    first: int,
    reference: np.ndarray,
) -> _Psnr:
    true, data_range = recording.true[first:], float(np.ptp(recording.true))

    def score(volumes: np.ndarray, multiplied_by: np.ndarray | float) -> float:
        if len(scan):  # without one they stay where they are
            volumes = around(scan.mean(axis=0), volumes, reference, multiplied_by)
        return psnr(np.broadcast_to(volumes, recording.true.shape)[first:], true, data_range)

    true_eeg, shifted = ((score(each, 1.0), score(each, scale)) for each in predicted)
    return _Psnr(recording.subject, score(reference[None], 1.0), true_eeg, shifted)


def _is_better_scaled(rows: Sequence[_Psnr]) -> bool:
    """Whether subjects are better by an interval that excludes 0; below three there is none."""
    return bool(rows) and _over_subjects(rows, _scale_gain).low > 0


def _scale_gain(row: _Psnr) -> float:
    plain, scaled = row.true_eeg
    return scaled - plain


def _over_subjects(rows: Sequence[_Psnr], score: Callable[[_Psnr], float]) -> Interval:
    by_subject: dict[str, list[float]] = {}
    for row in rows:
        by_subject.setdefault(row.subject, []).append(score(row))
    return subject_interval([float(np.mean(values)) for values in by_subject.values()])


def _score(length: int, rows: Sequence[_Psnr], scaled: bool) -> CalibratedScore:
    return CalibratedScore(
        volumes=length,
        true_eeg=_over_subjects(rows, lambda row: row.true_eeg[scaled]),
        shifted_eeg=_over_subjects(rows, lambda row: row.shifted_eeg[scaled]),
        mean_image=_over_subjects(rows, lambda row: row.mean_image),
        gain=_over_subjects(rows, lambda row: row.true_eeg[scaled] - row.shifted_eeg[scaled]),
        scaled=scaled,
        scale_gain=_over_subjects(rows, _scale_gain) if length else None,
    )
