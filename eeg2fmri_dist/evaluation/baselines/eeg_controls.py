"""A model that takes EEG, scored with the true EEG and with EEG that it should do worse with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from eeg2fmri_dist.data.controls import (
    middle,
    shuffled_eeg,
    shuffled_second_half,
    true_eeg,
    zero_eeg,
)
from eeg2fmri_dist.data.normalization import normalise_eeg
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import TestRecording, TestSet
from eeg2fmri_dist.evaluation.timing import future_share
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.inference.predict import predict_from_normalised
from eeg2fmri_dist.scores.networks import regional_means

ChangeEeg = Callable[[np.ndarray], np.ndarray]
PredictWith = Callable[[TestRecording, ChangeEeg], np.ndarray]


def free_running(
    trained: TrainedModel,
    recording: TestRecording,
    change: ChangeEeg = true_eeg,
) -> np.ndarray:
    """Predict a recording's volumes (volume, x, y, z) from its EEG, normalised, then changed."""
    eeg = normalise_eeg(recording.power, trained.data, trained.scaling)
    return predict_from_normalised(trained, change(eeg), best_device())


@functools.cache
def best_device() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def score_controls(predict: PredictWith, test_set: TestSet) -> list[ScoreRow]:
    """Score a free-running model with true and false EEG.

    Parameters
    ----------
    predict : callable
        (recording, change) -> volumes (volume, x, y, z) from the recording's EEG, normalised as
        the model wants it and then passed through `change`.
    test_set : TestSet
        What is scored.

    Returns
    -------
    list of ScoreRow
        ``free``, ``shuffled``, ``zero``, and ``other_subject`` where there are two subjects.
        ``free`` also holds ``future_share`` (see `timing.future_share`).
    """
    kept: dict[tuple[str, int], np.ndarray] = {}

    def keeping(name: str, change: ChangeEeg) -> Callable[[TestRecording], np.ndarray]:
        def predict_and_keep(recording: TestRecording) -> np.ndarray:
            volumes = predict(recording, change)
            kept[name, recording.segment.start] = _means(volumes, test_set)
            return volumes

        return predict_and_keep

    free = test_set.row("free", keeping("free", true_eeg))
    rows = [
        test_set.row("shuffled", keeping("shuffled", shuffled_eeg)),
        test_set.row("zero", lambda recording: predict(recording, zero_eeg)),
    ]
    others = _other_subjects(test_set)
    if others:
        rows.append(
            test_set.row(
                "other_subject",
                lambda recording: predict(others[recording.segment.start], true_eeg),
            )
        )
    shares = [
        (
            recording.subject,
            {
                "future_share": future_share(
                    kept["free", recording.segment.start],
                    kept["shuffled", recording.segment.start],
                    _means(predict(recording, shuffled_second_half), test_set),
                )
            },
        )
        for recording in test_set.recordings
        if middle(len(recording.true)) > 1
    ]
    return [free.with_scores(shares), *rows]


def _means(volumes: np.ndarray, test_set: TestSet) -> np.ndarray:
    return regional_means(volumes, test_set.regions.labels, len(test_set.regions))


def _other_subjects(test_set: TestSet) -> dict[int, TestRecording]:
    """Map the first sample of each recording to it, with the next subject's EEG in its place."""
    subjects = list(dict.fromkeys(recording.subject for recording in test_set.recordings))
    if len(subjects) < 2:
        return {}
    first = {recording.subject: recording for recording in reversed(test_set.recordings)}
    lenders = {
        subject: first[subjects[(at + 1) % len(subjects)]] for at, subject in enumerate(subjects)
    }
    return {
        recording.segment.start: replace(
            recording,
            # A shorter recording is repeated from its start.
            power=np.resize(
                lenders[recording.subject].power,
                (len(recording.power), *recording.power.shape[1:]),
            ),
        )
        for recording in test_set.recordings
    }
