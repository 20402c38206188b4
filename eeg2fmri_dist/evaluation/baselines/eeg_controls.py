"""A model that takes EEG, scored with the true EEG and with EEG that it should do worse with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from eeg2fmri_dist.data.controls import middle, shifted_eeg, shifted_second_half, true_eeg, zero_eeg
from eeg2fmri_dist.data.normalization import normalize_eeg
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording, ScoredSet
from eeg2fmri_dist.evaluation.timing import noncausal_fraction
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.inference.predict import predict_from_normalized
from eeg2fmri_dist.scores.networks import regional_means

ChangeEeg = Callable[[np.ndarray], np.ndarray]
PredictWith = Callable[[ScoredRecording, ChangeEeg], np.ndarray]


def free_running(
    trained: TrainedModel,
    recording: ScoredRecording,
    change: ChangeEeg = true_eeg,
) -> np.ndarray:
    """Predict a recording's volumes (volume, x, y, z) from its EEG, normalized, then changed."""
    eeg = normalize_eeg(recording.power, trained.data, trained.scaling)
    return predict_from_normalized(trained, change(eeg), best_device())


@functools.cache
def best_device() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def score_controls(predict: PredictWith, scored_set: ScoredSet) -> list[ScoreRow]:
    """Score a free-running model with true and false EEG.

    Parameters
    ----------
    predict : callable
        (recording, change) -> volumes (volume, x, y, z) from the recording's EEG, normalized as
        the model wants it and then passed through `change`.
    scored_set : ScoredSet
        What is scored.

    Returns
    -------
    list of ScoreRow
        ``eeg_only``, ``shifted``, ``zero``, and ``other_subject`` where there are two subjects.
        ``eeg_only`` also holds ``noncausal_fraction`` (see `timing.noncausal_fraction`).
    """
    kept: dict[tuple[str, int], np.ndarray] = {}

    def keeping(name: str, change: ChangeEeg) -> Callable[[ScoredRecording], np.ndarray]:
        def predict_and_keep(recording: ScoredRecording) -> np.ndarray:
            volumes = predict(recording, change)
            kept[name, recording.segment.start] = _means(volumes, scored_set)
            return volumes

        return predict_and_keep

    eeg_only = scored_set.row("eeg_only", keeping("eeg_only", true_eeg))
    rows = [
        scored_set.row("shifted", keeping("shifted", shifted_eeg)),
        scored_set.row("zero", lambda recording: predict(recording, zero_eeg)),
    ]
    others = _other_subjects(scored_set)
    if others:
        rows.append(
            scored_set.row(
                "other_subject",
                lambda recording: predict(others[recording.segment.start], true_eeg),
            )
        )
    shares = [
        (
            recording.subject,
            {
                "noncausal_fraction": noncausal_fraction(
                    kept["eeg_only", recording.segment.start],
                    kept["shifted", recording.segment.start],
                    _means(predict(recording, shifted_second_half), scored_set),
                )
            },
        )
        for recording in scored_set.recordings
        if middle(len(recording.true)) > 1
    ]
    return [eeg_only.with_scores(shares), *rows]


def _means(volumes: np.ndarray, scored_set: ScoredSet) -> np.ndarray:
    return regional_means(volumes, scored_set.regions.labels, len(scored_set.regions))


def _other_subjects(scored_set: ScoredSet) -> dict[int, ScoredRecording]:
    """Map the first sample of each recording to it, with the next subject's EEG in its place."""
    subjects = list(dict.fromkeys(recording.subject for recording in scored_set.recordings))
    if len(subjects) < 2:
        return {}
    first = {recording.subject: recording for recording in reversed(scored_set.recordings)}
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
        for recording in scored_set.recordings
    }
