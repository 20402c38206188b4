"""EEG features -> BOLD volumes, with a trained model."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from eeg2fmri_dist.config.train import OptimisationConfig
from eeg2fmri_dist.data import EegWindows
from eeg2fmri_dist.errors import CheckpointError, DataError
from eeg2fmri_dist.export import TrainedModel
from eeg2fmri_dist.normalise import normalise_eeg, to_volumes
from eeg2fmri_dist.training.objectives import Objective, make_objective
from eeg2fmri_dist.training.prediction import predict_windows

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
# 10-20 system before 1991 -> 10-10 system.
_RENAMED = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}


def objective_of(trained: TrainedModel, device: torch.device = CPU) -> Objective:
    """Return the objective around a trained model, in evaluation mode, on a device."""
    mask = torch.from_numpy(trained.mask) if trained.data.normalise == "voxelwise" else None
    return make_objective(trained.model, mask, OptimisationConfig()).to(device).eval()


def predict_bold(
    trained: TrainedModel, power: np.ndarray, device: torch.device = CPU
) -> np.ndarray:
    """Predict a BOLD run from the EEG of one recording alone.

    Parameters
    ----------
    trained : TrainedModel
        A Transformer, U-Net or ridge regression.
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
    eeg = normalise_eeg(power, trained.data, trained.scaling)
    return predict_from_normalised(trained, eeg, device)


def predict_from_normalised(
    trained: TrainedModel, eeg: np.ndarray, device: torch.device = CPU
) -> np.ndarray:
    """Predict from EEG that is normalised already (see `predict_bold`)."""
    if trained.card.model["name"] == "cae":
        raise CheckpointError(
            "a CAE reconstructs volumes, it does not predict them from EEG",
            remedy="give the run folder of a transformer, unet or ridge",
        )
    windows = EegWindows(eeg, trained.data)
    predicted = predict_windows(
        objective_of(trained, device), windows, windows.tiling_windows(), device
    )
    return to_volumes(predicted, trained.data, trained.scaling) * trained.mask


def order_channels(
    power: np.ndarray, channel_names: tuple[str, ...], trained: TrainedModel, where: Any
) -> np.ndarray:
    """Bring a recording's channels into the order that the model was trained on.

    Channels are found by name, in capitals or not (``FP1`` is ``Fp1``); T3, T4, T5 and T6 of the
    old 10-20 system are T7, T8, P7 and P8.

    Parameters
    ----------
    power : ndarray of shape (volume, channel, frequency)
        EEG features of the recording.
    channel_names : tuple of str
        Its channels.
    trained : TrainedModel
        Its card names the channels that are wanted.
    where : Path or str
        The recording, for messages.

    Returns
    -------
    ndarray of shape (volume, channel, frequency)
        Channels that the model does not know are left out.

    Raises
    ------
    DataError
        If a channel is missing.
    """
    wanted = trained.card.channel_names
    positions = {name: _find_channel(name, channel_names) for name in wanted}
    missing = [name for name, position in positions.items() if position is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(wanted)} channels that the model was trained on are "
            f"missing: {', '.join(missing)}; the recording has {', '.join(channel_names)}",
            where=where,
            remedy="use a recording with this montage; if it has other names for it, give the "
            "channels the model's names in the header; or train on the channels that both have "
            "(eeg.exclude)",
        )
    found = {name: position for name, position in positions.items() if position is not None}
    taken = [channel_names[position] for position in found.values()]
    renamed = [f"{own} as {name}" for own, name in zip(taken, found, strict=True) if own != name]
    if renamed:
        logger.info("%s: channels taken by another spelling: %s", where, ", ".join(renamed))
    return power[:, list(found.values())]


def _find_channel(name: str, channel_names: tuple[str, ...]) -> int | None:
    """Position of a channel: by its very name, else by the one name that means the same."""
    if name in channel_names:
        return channel_names.index(name)
    same = [at for at, other in enumerate(channel_names) if _plain_name(other) == _plain_name(name)]
    return same[0] if len(same) == 1 else None


def _plain_name(name: str) -> str:
    return _RENAMED.get(name.lower(), name.lower())
