"""What a calibration scan changes in the predictions for its subject."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from eeg2fmri_dist.calibration.scan import CalibrationScan
from eeg2fmri_dist.calibration.voxel_scale import voxel_scale
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.evaluation.metrics_file import ModelScores
from eeg2fmri_dist.inference.model_file import TrainedModel


def read_scan_image(
    trained: TrainedModel, scan: np.ndarray, model_scores: ModelScores | None
) -> CalibrationScan:
    """Return the image of a scan, and the scale of each voxel where validation subjects chose it.

    Parameters
    ----------
    trained : TrainedModel
    scan : ndarray of shape (volume, x, y, z)
        BOLD of the subject on the model's grid.
    model_scores : ModelScores or None
        How the model was scored; the score of about this length of scan counts.
    """
    tried = (
        {}
        if model_scores is None
        else {score.volumes: score for score in model_scores.run.calibrated}
    )
    tried.pop(0, None)
    scaled = bool(tried) and tried[_nearest(tried, len(scan))].scaled
    scale = voxel_scale(scan, trained.scaling.fraction) if scaled else None
    return CalibrationScan(scan.mean(axis=0), scale=scale)


def _nearest(lengths: Iterable[int], n_volumes: int) -> int:
    """Return the longest length within a scan, or else the shortest."""
    within = [length for length in lengths if length <= n_volumes]
    return max(within) if within else min(lengths)


def chosen_penalty(model_scores: ModelScores | None, n_volumes: int) -> float | None:
    """Return the penalty that validation subjects chose for scans of about this length.

    Parameters
    ----------
    model_scores : ModelScores or None
        How the model was scored.
    n_volumes : int
        Length of the scan: of the lengths that were tried, the longest within it counts, or else
        the shortest.

    Returns
    -------
    float or None
        None = no step was clearly better for them.

    Raises
    ------
    ConfigError
        If nobody tried.
    """
    tried = (
        {} if model_scores is None else {score.volumes: score for score in model_scores.run.adapted}
    )
    if not tried:
        raise ConfigError(
            "how far to adapt the model to a subject is not known: its evaluation did not try",
            where="calibration_eeg",
            remedy="run launch/evaluate.py with calibration_volumes on this model, give scores=... "
            "of such an evaluation, or leave calibration_eeg out",
        )
    return tried[_nearest(tried, n_volumes)].penalty
