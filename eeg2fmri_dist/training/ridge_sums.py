"""Recordings as ridge regression sums over them: whole, a block of volumes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import polynomial_basis
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.models.least_squares import Sums
from eeg2fmri_dist.models.ridge import RidgeRegression

_VOLUMES_PER_BLOCK = 64


def add_recording(sums: Sums, model: RidgeRegression, data: WindowData, number: int) -> None:
    """Add one segment of the data to the sums that a model is fitted from; keep nothing of it.

    Parameters
    ----------
    sums : Sums
        Of the model's features and targets.
    model : RidgeRegression
        Says what features and targets are.
    data : WindowData
        Recordings.
    number : int
        Of the segment.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    recording = data.store.recordings[data.segments[number].recording].key
    features = segment_features(model, data, number)
    trend = torch.from_numpy(polynomial_basis(data.lengths[number], _trend_order(data.config)))
    sums.add_recording(features, _targets(model, data, number), recording, trend=trend)
    data.forget(number)


def add_predictions(
    sums: Sums,
    model: RidgeRegression,
    encode: Callable[[Tensor], Tensor],
    data: WindowData,
    number: int,
) -> None:
    """Add what a fitted model predicts for a segment, as volumes (n, x, y, z) are encoded.

    Features count as they did when the model was fitted: what many of them could explain alike is
    explained by the same ones.
    """
    features = segment_features(model, data, number)
    blocks = features.split(_VOLUMES_PER_BLOCK)
    sums.add_recording(
        features * model.weighting, (encode(model.from_features(block)) for block in blocks)
    )


@torch.no_grad()
def segment_features(model: RidgeRegression, data: WindowData, number: int) -> Tensor:
    """Return the features (volume, feature) of a whole segment."""
    eeg = torch.from_numpy(data.segment("eeg", number)).to(model.bands.device)
    return model.band_features(eeg[None])[0, data.config.context :]


def _targets(model: RidgeRegression, data: WindowData, number: int) -> Iterator[Tensor]:
    """Targets (n, target) of a segment, a block of volumes at a time."""
    length = data.lengths[number]
    for start in range(0, length, _VOLUMES_PER_BLOCK):
        volumes = data.segment_bold(number, start, min(start + _VOLUMES_PER_BLOCK, length))
        yield model.gather(torch.from_numpy(volumes).to(model.bands.device))


def _trend_order(config: DataConfig) -> int:
    """Degree of the polynomial that targets have been detrended by."""
    return config.detrend_order if config.normalize == "voxelwise" else 0
