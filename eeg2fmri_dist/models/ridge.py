"""Ridge regression on band power through the HRF: the bar that networks have to pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.models.blocks import Grid
from eeg2fmri_dist.models.eeg_features import EegFeatures
from eeg2fmri_dist.models.hrf import hrf_basis
from eeg2fmri_dist.models.least_squares import RidgeSolution


class RidgeRegression(nn.Module):
    """Linear map from normalised EEG to volumes, fitted in closed form.

    Features are band averages of the normalised spectra, filtered by the canonical HRF and two
    shifted copies. They are a linear function of what the networks read, so that a network with
    these filters can start at this very prediction.

    Parameters
    ----------
    grid : tuple of int
        Voxels (x, y, z) of a volume.
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    context : int
        EEG TRs before the first volume of a window.
    tr_s : float
        Repetition time in s.
    num_targets : int
        Voxels or regions, each with weights of its own.

    Attributes
    ----------
    bands : Tensor, shape (frequency, band)
        Averages frequencies to bands; a band without frequencies is a column of zeros.
    targets : Tensor of int, shape (x, y, z)
        Number of each voxel's target, from 1; 0 = none, predicted as 0.
    coefficients : Parameter, shape (feature, target)
        Features are ordered by HRF, channel, band.
    intercept : Parameter, shape (target,)
    penalty : Tensor, shape ()
        That was chosen.

    Raises
    ------
    ConfigError
        If the context is shorter than the HRF.
    """

    bands: Tensor
    targets: Tensor
    penalty: Tensor

    def __init__(
        self,
        grid: Grid,
        num_channels: int,
        num_frequencies: int,
        *,
        context: int,
        tr_s: float,
        num_targets: int,
    ):
        super().__init__()
        check_context(context, tr_s)
        self.context = context
        self.features = EegFeatures(num_channels, len(BANDS_HZ), tr_s=tr_s)
        self.register_buffer("bands", torch.zeros(num_frequencies, len(BANDS_HZ)))
        self.register_buffer("targets", torch.zeros(grid, dtype=torch.int32))
        self.register_buffer("penalty", torch.zeros((), dtype=torch.float64))
        self.coefficients = nn.Parameter(torch.zeros(self.features.size, num_targets))
        self.intercept = nn.Parameter(torch.zeros(num_targets))

    def forward(self, eeg: Tensor) -> Tensor:
        """EEG (batch, context + T, channel, frequency) -> volumes (batch, T, x, y, z)."""
        return self.from_features(self.band_features(eeg)[:, self.context :])

    def band_features(self, eeg: Tensor) -> Tensor:
        """EEG (batch, tr, channel, frequency) -> features (batch, tr, feature).

        Raises
        ------
        DataError
            If the EEG has other channels or frequencies than the model.
        """
        if eeg.shape[3] != len(self.bands):
            raise DataError(
                f"EEG has {eeg.shape[3]} frequencies, the model was made for {len(self.bands)}",
                remedy="use EEG features with the channels and frequencies of the training data",
            )
        return self.features(eeg @ self.bands)

    def from_features(self, features: Tensor) -> Tensor:
        """Features (..., feature) -> volumes (..., x, y, z)."""
        return self.spread(features @ self.coefficients + self.intercept)

    def spread(self, values: Tensor) -> Tensor:
        """Give each voxel the value of its target: (..., target) -> (..., x, y, z)."""
        return functional.pad(values, (1, 0))[..., self.targets.long()]

    def gather(self, volumes: Tensor) -> Tensor:
        """Average volumes (n, x, y, z) over the voxels of each target: (n, target)."""
        numbers = self.targets.flatten().long()
        num_targets = len(self.intercept)
        sums = volumes.new_zeros(len(volumes), num_targets + 1)
        sums.index_add_(1, numbers, volumes.flatten(1))
        return (sums / numbers.bincount(minlength=num_targets + 1))[:, 1:]

    @torch.no_grad()
    def take(self, solution: RidgeSolution) -> None:
        """Take weights and penalty."""
        self.coefficients.copy_(solution.coefficients)
        self.intercept.copy_(solution.intercept)
        self.penalty.fill_(solution.penalty)


def response_trs(tr_s: float) -> int:
    """Return how many TRs the haemodynamic response reaches back."""
    return hrf_basis(tr_s).shape[1] - 1


def check_context(context: int, tr_s: float) -> None:
    """Refuse windows whose first volumes would miss a part of the haemodynamic response."""
    needed = response_trs(tr_s)
    if context < needed:
        raise ConfigError(
            f"{context} TRs of EEG before a window are shorter than the haemodynamic response, "
            f"{needed} TRs of {tr_s:.3g} s",
            where="data.context",
            remedy=f"set data.context={needed} or more",
        )


def band_average(frequencies_hz: np.ndarray) -> np.ndarray:
    """Return weights (frequency, band) that average the frequencies of each band.

    Bands are half open but for the last, which includes its end.
    """
    edges = list(BANDS_HZ.values())
    inside = np.stack([(frequencies_hz >= low) & (frequencies_hz < high) for low, high in edges], 1)
    inside[:, -1] |= frequencies_hz == edges[-1][1]
    return (inside / inside.sum(0).clip(min=1)).astype(np.float32)
