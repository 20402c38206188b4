"""How far the processing of a recording is from the truth, where its layout names what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.config.preprocess import EegConfig
from preprocessing.artifacts.cleaning import residual_db
from preprocessing.recordings import Recording
from preprocessing.template.head_map import load_head_map
from preprocessing.template.mni import load_brain_mask

if TYPE_CHECKING:
    from preprocessing.bold.bold_run import BoldRun
    from preprocessing.bold.registration import Registration
    from preprocessing.eeg.features import EegFeatures


def with_residual(
    features: EegFeatures,
    recording: Recording,
    tr_s: float,
    config: EegConfig,
    dummy_scans: int,
) -> EegFeatures:
    """Features whose `cleaning` knows what the correction left of the scanner artifacts.

    Parameters
    ----------
    features : EegFeatures
        Of the recording.
    recording : Recording
        Its `truth` may name EEG with the same signal without scanner artifacts.
    tr_s : float
        Repetition time in s.
    config : EegConfig
        Settings of the features.
    dummy_scans : int
        First volumes that were left out.

    Returns
    -------
    EegFeatures
        As they were, if nothing was corrected or there is no such EEG.

    Raises
    ------
    DataError
        If the EEG without artifacts cannot be read.
    """
    from preprocessing.eeg.features import eeg_features

    clean_path = recording.truth.clean_eeg_path if recording.truth else None
    cleaning = features.cleaning
    if clean_path is None or not (cleaning.n_volumes or cleaning.n_heartbeats):
        return features
    as_it_is = EegConfig.model_validate(
        config.model_dump()
        | {"gradient_artifact": {"remove": False}, "pulse_artifact": {"remove": False}}
    )
    n_volumes = len(features.power) + dummy_scans
    clean = eeg_features(
        replace(recording, eeg_path=clean_path), n_volumes, tr_s, as_it_is, dummy_scans
    )
    left = residual_db(features.power, clean.power, features.frequencies_hz)
    return replace(features, cleaning=replace(cleaning, residual_db=left))


def registration_error_mm(
    recording: Recording, run: BoldRun, registration: Registration
) -> dict[str, float]:
    """Return the distance of the registration from the true map of the head.

    Parameters
    ----------
    recording : Recording
        Its `truth` may name that map.
    run : BoldRun
    registration : Registration

    Returns
    -------
    dict of str to float
        ``true_error_mean_mm`` and ``true_error_p95_mm`` over the template's brain voxels inside the
        run's field of view; empty where the map is not known.

    Raises
    ------
    DataError
        If the map cannot be read.
    """
    path = recording.truth.head_map_path if recording.truth else None
    if path is None:
        return {}
    head, mask = load_head_map(path), load_brain_mask()
    brain_mm = np.argwhere(np.asarray(mask.dataobj) > 0) @ mask.affine[:3, :3].T
    true_mm = head.to_scanner(brain_mm + mask.affine[:3, 3])
    to_index = np.linalg.inv(run.affine)
    index = true_mm @ to_index[:3, :3].T + to_index[:3, 3]
    seen = ((index >= -0.5) & (index <= np.array(run.shape) - 0.5)).all(axis=1)
    errors_mm = np.linalg.norm(registration.native_mm - true_mm, axis=1)[seen]
    return {
        "true_error_mean_mm": float(errors_mm.mean()),
        "true_error_p95_mm": float(np.percentile(errors_mm, 95)),
    }
