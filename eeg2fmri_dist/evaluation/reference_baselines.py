"""What a model is measured against: predictions without a model, and EEG that says nothing.

An oracle sees the BOLD that it should predict; its score is a reference, not a competitor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Baseline:
    """How a baseline is called in tables.

    Attributes
    ----------
    label : str
        Short name.
    meaning : str
        What it predicts, in words.
    oracle : bool
        True where it sees the test subject's BOLD.
    """

    label: str
    meaning: str
    oracle: bool


BASELINES = {
    "training_mean": Baseline(
        "Training-mean image", "the mean image of the training subjects, for every volume", False
    ),
    "ridge": Baseline(
        "Ridge regression",
        "lagged linear regression on EEG band power or its logarithm, whichever suits validation "
        "subjects, fitted on the training subjects",
        False,
    ),
    "ridge_shifted": Baseline(
        "Ridge, circularly shifted EEG",
        "the same regression given EEG from half a recording away",
        False,
    ),
    "subject_mean": Baseline(
        "Subject-mean image", "the test subject's own mean image, for every volume", True
    ),
    "ceiling": Baseline(
        "Noise ceiling",
        "what the EEG shows of the simulated BOLD, without noise: the most that can be predicted",
        True,
    ),
    "last_volume": Baseline("Copy of last volume", "the true volume one TR earlier", True),
}


def training_mean(recording_means: np.ndarray, n_volumes: int) -> np.ndarray:
    """Predict the mean image of the training recordings, for every volume.

    Parameters
    ----------
    recording_means : ndarray of shape (recording, x, y, z)
        Temporal mean of each training recording.
    n_volumes : int
        Volumes of the recording to predict.

    Returns
    -------
    ndarray of shape (volume, x, y, z)
        Read-only view of one image.
    """
    return _repeat(recording_means.mean(axis=0), n_volumes)


def subject_mean(true: np.ndarray) -> np.ndarray:
    """Oracle: the mean of the true volumes (volume, x, y, z), for every volume."""
    return _repeat(true.mean(axis=0), len(true))


def last_volume(true: np.ndarray) -> np.ndarray:
    """Oracle: the true volume one TR earlier; the first, which has none before it, is itself.

    Another subject's image in its place would be an outlier that decides every score over time.
    """
    return np.concatenate([true[:1], true[:-1]])


def _repeat(image: np.ndarray, n_volumes: int) -> np.ndarray:
    return np.broadcast_to(image.astype(np.float32), (n_volumes, *image.shape))
