"""EEG features -> BOLD volumes, with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from eeg2fmri_dist.data.normalization import normalize_eeg, to_volumes
from eeg2fmri_dist.data.window_index import Window
from eeg2fmri_dist.data.windows import EegWindows, Field, WindowSource
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.inference.objectives import (
    Batch,
    Objective,
    TokenGeneration,
    counted_voxels,
    make_objective,
)

CPU = torch.device("cpu")


def objective_of(trained: TrainedModel, device: torch.device = CPU) -> Objective:
    """Return the objective around a trained model, in evaluation mode, on a device."""
    counted = counted_voxels(trained.mask, trained.data)
    return make_objective(trained.model, counted).to(device).eval()


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
    eeg = normalize_eeg(power, trained.data, trained.scaling)
    yield from _blocks(trained, eeg, device)


def predict_from_normalized(
    trained: TrainedModel, eeg: np.ndarray, device: torch.device = CPU
) -> np.ndarray:
    """Predict from EEG that is normalized already (see `predict_bold`)."""
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


_VOLUMES_PER_BATCH = 128


def predict_windows(
    objective: Objective, data: WindowSource, windows: Sequence[Window], device: torch.device
) -> np.ndarray:
    """Predict the volumes that consecutive tiling windows cover, as at test time.

    Each window is generated from its start token; a Transformer feeds its own tokens back.

    Parameters
    ----------
    objective : Objective
        Holds the model.
    data : WindowSource
        What the windows are cut from.
    windows : sequence of Window
        The first windows of a tiling, in order.
    device : torch.device
        Of the model.

    Returns
    -------
    ndarray of shape (volume, x, y, z)
        Normalized volumes from the first TR on.
    """
    return np.concatenate([*predict_in_blocks(objective, data, windows, device)])


def predict_in_blocks(
    objective: Objective, data: WindowSource, windows: Sequence[Window], device: torch.device
) -> Iterator[np.ndarray]:
    """Yield the volumes of `predict_windows` a few windows at a time."""
    yield from _predict(objective.predict, data, windows, objective.predicts_from, device)


def predict_teacher_forced(
    objective: TokenGeneration,
    data: WindowSource,
    windows: Sequence[Window],
    device: torch.device,
) -> np.ndarray:
    """Predict each volume from the EEG and the true volumes before it in its window.

    Parameters and result are those of `predict_windows`.
    """
    fields: tuple[Field, ...] = ("eeg", "tokens") if data.has_tokens else ("eeg", "bold")
    return np.concatenate(
        [*_predict(objective.predict_teacher_forced, data, windows, fields, device)]
    )


@torch.no_grad()
def _predict(
    predict: Callable[[Batch], torch.Tensor],
    data: WindowSource,
    windows: Sequence[Window],
    fields: Sequence[Field],
    device: torch.device,
) -> Iterator[np.ndarray]:
    at_once = max(1, _VOLUMES_PER_BATCH // data.config.window)
    for first in range(0, len(windows), at_once):
        chosen = windows[first : first + at_once]
        batch = data.batch(chosen, fields)
        volumes = predict({name: tensor.to(device) for name, tensor in batch.items()})
        for window, predicted in zip(chosen, volumes.float().cpu().numpy(), strict=True):
            yield predicted[len(predicted) - window.fresh :]
