"""What a correction left of the scanner artifacts, where the recording is simulated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from eeg2fmri_dist.config.preprocess import EegConfig
from preprocessing.artifacts.cleaning import residual_db
from preprocessing.layouts import noddi
from preprocessing.recordings import Recording

if TYPE_CHECKING:
    from preprocessing.eeg.features import EegFeatures


def with_residual(
    features: EegFeatures,
    recording: Recording,
    root: Path,
    tr_s: float,
    config: EegConfig,
    drop_volumes: int,
) -> EegFeatures:
    """Features whose `cleaning` knows the residual, by the exported EEG of the same subject.

    The simulator's export holds the same signal without scanner artifacts.

    Parameters
    ----------
    features : EegFeatures
        Of the raw recording.
    recording : Recording
        The raw recording.
    root : Path
        Folder of the simulated data set.
    tr_s : float
        Repetition time in s.
    config : EegConfig
        Settings of the features.
    drop_volumes : int
        First volumes that were left out.

    Returns
    -------
    EegFeatures
        As they were, if nothing was corrected or there is no export.
    """
    from preprocessing.eeg.features import eeg_features

    export = noddi.eeg_header(root, recording.subject, "export")
    cleaning = features.cleaning
    if not (cleaning.n_volumes or cleaning.n_heartbeats) or not export.is_file():
        return features
    as_it_is = EegConfig.model_validate(
        config.model_dump()
        | {"gradient_artifact": {"remove": False}, "pulse_artifact": {"remove": False}}
    )
    n_volumes = len(features.power) + drop_volumes
    truth = eeg_features(
        replace(recording, eeg_path=export), n_volumes, tr_s, as_it_is, drop_volumes
    )
    left = residual_db(features.power, truth.power, features.frequencies_hz)
    return replace(features, cleaning=replace(cleaning, residual_db=left))
