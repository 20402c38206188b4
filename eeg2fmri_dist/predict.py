"""EEG features -> BOLD volumes, with a trained model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from eeg2fmri_dist.config.train import OptimisationConfig
from eeg2fmri_dist.data import EegWindows
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.export import TrainedModel
from eeg2fmri_dist.normalise import normalise_eeg, to_volumes
from eeg2fmri_dist.training.objectives import Objective, counted_voxels, make_objective
from eeg2fmri_dist.training.prediction import predict_in_blocks

CPU = torch.device("cpu")


def objective_of(trained: TrainedModel, device: torch.device = CPU) -> Objective:
    """Return the objective around a trained model, in evaluation mode, on a device."""
    counted = counted_voxels(trained.mask, trained.data)
    return make_objective(trained.model, counted, OptimisationConfig()).to(device).eval()


def predict_bold(
    trained: TrainedModel, power: np.ndarray, device: torch.device = CPU
) -> np.ndarray:
    """Predict a BOLD run from the EEG of one recording alone.

    Parameters
    ----------
    trained : TrainedModel
        A Transformer, U-Net, ridge regression or ensemble.
    power : ndarray of shape (volume, channel, frequency)
        EEG features as in the store (uV^2).
    device : torch.device
        Where to compute.

    Returns
    -------
    ndarray of shape (volume, x, y, z), float32
        On the grid of the card, in units of the training store; zero outside the mask.

    Raises
    ------
    CheckpointError
        If the model does not predict from EEG.
    """
    return np.concatenate([*predict_bold_in_blocks(trained, power, device)])


def predict_bold_in_blocks(
    trained: TrainedModel, power: np.ndarray, device: torch.device = CPU
) -> Iterator[np.ndarray]:
    """Yield the volumes of `predict_bold` in order, a window at a time."""
    eeg = normalise_eeg(power, trained.data, trained.scaling)
    yield from _blocks(trained, eeg, device)


def predict_from_normalised(
    trained: TrainedModel, eeg: np.ndarray, device: torch.device = CPU
) -> np.ndarray:
    """Predict from EEG that is normalised already (see `predict_bold`)."""
    return np.concatenate([*_blocks(trained, eeg, device)])


def check_predicts(trained: TrainedModel) -> None:
    """Refuse a model that does not predict from EEG.

    Raises
    ------
    CheckpointError
        If it is a CAE.
    """
    if trained.card.model["name"] == "cae":
        raise CheckpointError(
            "a CAE reconstructs volumes, it does not predict them from EEG",
            remedy="give the run folder of a transformer, unet or ridge",
        )


def _blocks(trained: TrainedModel, eeg: np.ndarray, device: torch.device) -> Iterator[np.ndarray]:
    check_predicts(trained)
    windows = EegWindows(eeg, trained.data)
    blocks = predict_in_blocks(
        objective_of(trained, device), windows, windows.tiling_windows(), device
    )
    for predicted in blocks:
        yield to_volumes(predicted, trained.data, trained.scaling) * trained.mask
