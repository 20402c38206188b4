"""Windows in, the volumes of a whole recording out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from eeg2fmri_dist.data import Field, WindowSource
from eeg2fmri_dist.training.objectives import Batch, Objective, TokenGeneration
from eeg2fmri_dist.windows import Window

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
        Normalised volumes from the first TR on.
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
