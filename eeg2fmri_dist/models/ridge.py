"""Ridge regression on band power through the HRF: the baseline that networks have to beat."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.models.blocks import Grid
from eeg2fmri_dist.models.eeg_features import BandProducts, EegFeatures
from eeg2fmri_dist.models.hrf import hrf_basis
from eeg2fmri_dist.models.least_squares import RidgeSolution

# How large weights of the other filters, and of products, are expected to be beside those of the
# canonical HRF: validation subjects choose. 0.1 and 0.3 allow the response to come about 0.3 s and
# 1 s earlier or later than the canonical one.
_SHAPE_WEIGHTS = (0.1, 0.3, 1.0)
_PRODUCT_WEIGHTS = (0.0, 0.1, 0.3)


class RidgeRegression(nn.Module):
    """Linear map from normalized EEG to volumes, fitted in closed form.

    Features are band averages of the normalized spectra, filtered by the canonical HRF and by two
    filters that make it earlier or wider. They are a linear function of what the networks read, so
    that a network with such filters can start at this very prediction. Products of bands, which
    are not, can be added (`BandProducts`).

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
    products : bool
        Whether squares and products of band power are features, too.

    Attributes
    ----------
    bands : Tensor, shape (frequency, band)
        Averages frequencies to bands; a band without frequencies is a column of zeros.
    targets : Tensor of int, shape (x, y, z)
        Number of each voxel's target, from 1; 0 = none, predicted as 0.
    coefficients : Parameter, shape (feature, target)
        Features are ordered by filter, channel, band; products come last.
    intercept : Parameter, shape (target,)
    penalty : Tensor, shape ()
        That was chosen.
    weighting : Tensor, shape (feature,)
        How much features were allowed to count; see `solve_ridge`.

    Raises
    ------
    ConfigError
        If the context is shorter than the HRF.
    """

    bands: Tensor
    targets: Tensor
    penalty: Tensor
    weighting: Tensor

    def __init__(
        self,
        grid: Grid,
        num_channels: int,
        num_frequencies: int,
        *,
        context: int,
        tr_s: float,
        num_targets: int,
        products: bool = False,
    ):
        super().__init__()
        check_context(context, tr_s)
        self.context = context
        self.features = EegFeatures(num_channels, len(BANDS_HZ), tr_s=tr_s)
        self.products = BandProducts(num_channels, len(BANDS_HZ), tr_s=tr_s) if products else None
        self.register_buffer("bands", torch.zeros(num_frequencies, len(BANDS_HZ)))
        self.register_buffer("targets", torch.zeros(grid, dtype=torch.int32))
        self.register_buffer("penalty", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weighting", torch.ones(self.num_features, dtype=torch.float64))
        self.coefficients = nn.Parameter(torch.zeros(self.num_features, num_targets))
        self.intercept = nn.Parameter(torch.zeros(num_targets))

    @property
    def num_features(self) -> int:
        """Rows of the coefficients."""
        return self.features.size + (self.products.size if self.products else 0)

    def weightings(self) -> list[Tensor]:
        """Return the choices of how much features may count, each (feature,); see `solve_ridge`."""
        shapes = shape_weightings(self.features)
        if self.products is None:
            return shapes
        return [
            functional.pad(weights, (0, self.products.size), value=share)
            for weights in shapes
            for share in _PRODUCT_WEIGHTS
        ]

    def describe_weighting(self) -> str:
        """Say how much features were allowed to count."""
        words = f"earlier and wider responses x {self.weighting[self.features.size - 1]:g}"
        return words if self.products is None else f"{words}, products x {self.weighting[-1]:g}"

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
        power = eeg @ self.bands
        features = self.features(power)
        if self.products is None:
            return features
        return torch.cat([features, self.products(power)], dim=2)

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
        """Take weights, and what was chosen."""
        self.coefficients.copy_(solution.coefficients)
        self.intercept.copy_(solution.intercept)
        self.penalty.fill_(solution.penalty)
        self.weighting.copy_(solution.weighting)


def shape_weightings(features: EegFeatures) -> list[Tensor]:
    """Return how much the response may differ from the canonical one, each (feature,)."""
    canonical = torch.arange(features.size) < features.size // len(features.kernels)
    return [torch.where(canonical, 1.0, weight).double() for weight in _SHAPE_WEIGHTS]


def response_trs(tr_s: float) -> int:
    """Return how many TRs the hemodynamic response reaches back."""
    return hrf_basis(tr_s).shape[1] - 1


def check_context(context: int, tr_s: float) -> None:
    """Refuse windows whose first volumes would miss a part of the hemodynamic response."""
    needed = response_trs(tr_s)
    if context < needed:
        raise ConfigError(
            f"{context} TRs of EEG before a window are shorter than the hemodynamic response, "
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
