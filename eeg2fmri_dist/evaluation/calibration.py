"""Scores on the scale of images when a short scan of the same person is there.

Without one, a prediction moves around the mean image of the training subjects, whose anatomy is
not this person's, and PSNR measures the anatomy. With a few volumes of the person their mean takes
its place. They need no EEG, and serve as the reference image alone: nothing is fitted to them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from eeg2fmri_dist.data import shuffled_eeg
from eeg2fmri_dist.evaluation import baselines
from eeg2fmri_dist.evaluation.controls import PredictWith
from eeg2fmri_dist.evaluation.results import CalibratedScore
from eeg2fmri_dist.evaluation.scored_set import TestRecording, TestSet
from eeg2fmri_dist.evaluation.significance import subject_interval
from eeg2fmri_dist.normalise import around
from eeg2fmri_dist.scores.metrics import psnr

logger = logging.getLogger(__name__)

LARGEST_SHARE = 1 / 2  # of a recording that may serve as the scan; the rest is scored


def usable_lengths(lengths: Sequence[int], test_set: TestSet) -> list[int]:
    """Return the lengths that leave half of every recording to be scored, shortest first."""
    shortest = min(len(recording.true) for recording in test_set.recordings)
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
    predict: PredictWith, test_set: TestSet, lengths: Sequence[int]
) -> list[CalibratedScore]:
    """Score a model with calibration scans of growing length, on the same volumes each time.

    Parameters
    ----------
    predict : callable
        (recording, change) -> volumes (volume, x, y, z) from the recording's EEG, normalised and
        passed through `change`.
    test_set : TestSet
        What is scored.
    lengths : sequence of int
        Volumes of the scans. The volumes after the longest are scored.

    Returns
    -------
    list of CalibratedScore
        One for each length.
    """
    first = max(lengths, default=0)
    found: dict[int, list[tuple[str, list[float]]]] = {length: [] for length in lengths}
    for recording in test_set.recordings:
        volumes = {
            "true": predict(recording, baselines.true_eeg),
            "shuffled": predict(recording, shuffled_eeg),
        }
        true = recording.true[first:]
        data_range = float(np.ptp(recording.true))
        for length in lengths:
            predicted = [volumes["true"], volumes["shuffled"], test_set.scaling.reference[None]]
            images = [_placed(image, recording, length, test_set) for image in predicted]
            images = [np.broadcast_to(image, recording.true.shape)[first:] for image in images]
            found[length].append(
                (recording.subject, [psnr(image, true, data_range) for image in images])
            )
    return [_score(length, rows) for length, rows in found.items()]


def _placed(
    volumes: np.ndarray, recording: TestRecording, length: int, test_set: TestSet
) -> np.ndarray:
    """Move volumes to the mean image of a scan; without one they stay where they are."""
    if length == 0:
        return volumes
    return around(recording.true[:length].mean(axis=0), volumes, test_set.scaling.reference)


def _score(length: int, rows: Sequence[tuple[str, list[float]]]) -> CalibratedScore:
    by_subject: dict[str, list[list[float]]] = {}
    for subject, values in rows:
        by_subject.setdefault(subject, []).append(values)
    means = np.array([np.mean(values, axis=0) for values in by_subject.values()])
    true, shuffled, mean_image = (subject_interval(column) for column in means.T)
    return CalibratedScore(
        length, true, shuffled, mean_image, gain=subject_interval(means[:, 0] - means[:, 1])
    )
