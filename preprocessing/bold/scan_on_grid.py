"""A scan on a model's grid: where a prediction for this subject starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.preprocess import BoldConfig
from preprocessing.bold.bold_run import open_bold
from preprocessing.bold.registration import register
from preprocessing.bold.resampling import preprocess_bold


def scan_volumes(path: Path, tr_s: float, settings: BoldConfig, dummy_scans: int) -> np.ndarray:
    """Register a BOLD run as the training data were, and resample it.

    Parameters
    ----------
    path : Path
        BOLD run (NIfTI), a few volumes long or more.
    tr_s : float
        Repetition time in s; the header's does not matter here.
    settings : BoldConfig
        Those of the training data; no T1 is used.
    dummy_scans : int
        First volumes that are left out, brighter for want of T1 saturation.

    Returns
    -------
    ndarray of shape (volume, x, y, z), float32
        On the grid of the settings, in the units of the run; zero outside the brain mask.

    Raises
    ------
    DataError
        If the file is no BOLD run, too short, or its registration fails.
    """
    settings = settings.model_copy(update={"spatial_normalization": "direct_epi"})
    run = open_bold(path, tr_s, dummy_scans)
    registered = register(run.mean(dummy_scans), run.affine, settings)
    return preprocess_bold(run, registered, settings, dummy_scans).volumes
