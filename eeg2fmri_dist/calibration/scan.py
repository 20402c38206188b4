"""A calibration scan of the subject: a reference image, the scale of each voxel, and a step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from eeg2fmri_dist.calibration.ridge_update import RidgeUpdate, fit_step, person_features
from eeg2fmri_dist.data.normalization import around, normalize_eeg
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.inference.predict import predict_bold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrationScan:
    """What a scan tells of a subject.

    Attributes
    ----------
    image : ndarray of shape (x, y, z)
        Its mean.
    step : RidgeUpdate or None
        Changes of voxels inside the mask, as a share of the image; None = the model stays as it is.
    adapted_by : str
        In words, for the sidecar; empty without a step.
    scale : ndarray of shape (x, y, z) or None
        What each voxel's change is multiplied by; None = changes stay as they are.
    """

    image: np.ndarray
    step: RidgeUpdate | None = None
    adapted_by: str = ""
    scale: np.ndarray | None = None


def adapt(
    trained: TrainedModel,
    known: CalibrationScan,
    scan: np.ndarray,
    power: np.ndarray,
    penalty: float | None,
    device: torch.device,
) -> CalibrationScan:
    """Move a model toward a subject.

    Parameters
    ----------
    trained : TrainedModel
    known : CalibrationScan
        What `read_scan_image` made of the scan.
    scan : ndarray of shape (volume, x, y, z)
        BOLD of the subject on the model's grid.
    power : ndarray of shape (volume, channel, frequency)
        The EEG recorded with it, as in the store.
    penalty : float or None
        Of the step; None = no step.
    device : torch.device
        Where the model predicts.

    Raises
    ------
    DataError
        If EEG and scan have different lengths, or the scan is a single volume.
    """
    n_volumes = len(scan)
    if len(power) != n_volumes or n_volumes < 2:
        raise DataError(
            f"the calibration scan has {n_volumes} volumes, its EEG {len(power)}",
            where="calibration_eeg",
            remedy="give the EEG that was recorded with this very scan, with a marker for each of "
            "two volumes or more, or leave calibration_eeg out",
        )
    if penalty is None:
        logger.info("not adapted: no step was clearly better for validation subjects")
        return known
    mask, reference = trained.mask.astype(bool), trained.scaling.reference
    share = _ratio(scan[:, mask], known.image[mask])
    volumes = predict_bold(trained, power, device)
    predicted = _ratio(volumes[:, mask], reference[mask])
    step = fit_step(_features(trained, power), share - predicted, penalty)
    how = f"ridge regression on {n_volumes} volumes with EEG, penalty {penalty:g}"
    # Evaluations try the step on unscaled changes; it moves them toward the subject itself.
    return replace(known, step=step, adapted_by=how, scale=None)


def around_scan(
    scan: CalibrationScan, blocks: Iterable[np.ndarray], power: np.ndarray, trained: TrainedModel
) -> Iterator[np.ndarray]:
    """Yield predicted volumes, a block at a time, as those of the subject.

    Parameters
    ----------
    scan : CalibrationScan
    blocks : iterable of ndarray, each (n, x, y, z)
        What the model predicts, in order.
    power : ndarray of shape (volume, channel, frequency)
        From this EEG.
    trained : TrainedModel
    """
    mask, reference = trained.mask.astype(bool), trained.scaling.reference
    features = None if scan.step is None else _features(trained, power)
    start = 0
    for block in blocks:
        block = _scaled(block, scan, reference)
        if scan.step is not None and features is not None:
            added = scan.step(features[start : start + len(block)])
            block[:, mask] += (reference[mask] * added).astype(block.dtype)
        start += len(block)
        yield around(scan.image, block, reference) * trained.mask


def _scaled(volumes: np.ndarray, scan: CalibrationScan, reference: np.ndarray) -> np.ndarray:
    """Return a copy of volumes, each voxel's change scaled to the subject where that is known."""
    return around(reference, volumes, reference, 1.0 if scan.scale is None else scan.scale)


def _features(trained: TrainedModel, power: np.ndarray) -> np.ndarray:
    return person_features(trained, normalize_eeg(power, trained.data, trained.scaling))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.ones(top.shape), where=bottom > 0)
