"""EEG front ends: spectra per TR -> numbers per TR that know the hemodynamic response (HRF)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.hrf import hrf_basis, hrf_shapes


class EegFeatures(nn.Module):
    """Flatten channel and frequency, and filter each feature by each of three HRF kernels.

    The filters are causal and orthonormal, so that white input keeps its variance: the canonical
    HRF, and what makes it earlier or wider (`hrf_shapes`).

    Parameters
    ----------
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    tr_s : float
        Repetition time in s.
    """

    kernels: Tensor

    def __init__(self, num_channels: int, num_frequencies: int, *, tr_s: float):
        super().__init__()
        self.shape = (num_channels, num_frequencies)
        self.register_buffer("kernels", torch.tensor(hrf_shapes(tr_s), dtype=torch.float32))
        self.size = len(self.kernels) * num_channels * num_frequencies

    def forward(self, eeg: Tensor) -> Tensor:
        """(batch, tr, channel, frequency) -> (batch, tr, size); zeros before the first TR.

        Raises
        ------
        DataError
            If the EEG has other channels or frequencies than the model.
        """
        _check_shape(eeg, self.shape)
        num_trs = eeg.shape[1]
        filters = _convolution_matrices(self.kernels, num_trs).transpose(0, 1).flatten(0, 1)
        return (filters @ eeg.flatten(2)).unflatten(1, (num_trs, -1)).flatten(2)


class BandProducts(nn.Module):
    """Squares of each channel's band power, and products of its bands, through the canonical HRF.

    Power is filtered first, then multiplied. Features are ordered by pair of bands (0-0, 0-1, ...,
    1-1, ...), then channel.

    Parameters
    ----------
    num_channels, num_bands : int
        Size of one TR of band power.
    tr_s : float
        Repetition time in s.

    Notes
    -----
    That bands interact in what BOLD follows: de Munck et al., NeuroImage 47, 2009.
    """

    kernel: Tensor

    def __init__(self, num_channels: int, num_bands: int, *, tr_s: float):
        super().__init__()
        self.register_buffer("kernel", torch.tensor(hrf_shapes(tr_s)[:1], dtype=torch.float32))
        self._first, self._second = np.triu_indices(num_bands)
        self.size = len(self._first) * num_channels

    def forward(self, power: Tensor) -> Tensor:
        """(batch, tr, channel, band) -> (batch, tr, size)."""
        (filters,) = _convolution_matrices(self.kernel, power.shape[1])
        filtered = (filters @ power.flatten(2)).unflatten(2, power.shape[2:]).transpose(2, 3)
        return (filtered[:, :, self._first] * filtered[:, :, self._second]).flatten(2)


class EegProjection(nn.Module):
    """Linear maps of EEG features, each filtered over time by trainable HRF kernels.

    Equal to linear layers over features that each kernel has filtered: three numbers per channel,
    frequency and output choose the response, which needs far less data than a kernel each. Since
    the kernels are shared by all features, the few outputs are filtered instead of the many inputs.

    Parameters
    ----------
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    sizes : sequence of int
        Outputs of each map.
    tr_s : float or None
        Repetition time in s; None leaves the filters out.
    dropout : float
        Share of features (a frequency of a channel) that are hidden in training, each for a whole
        window.
    """

    def __init__(
        self,
        num_channels: int,
        num_frequencies: int,
        sizes: Sequence[int],
        *,
        tr_s: float | None,
        dropout: float,
    ):
        super().__init__()
        self.shape = (num_channels, num_frequencies)
        self.sizes = list(sizes)
        self.dropout = dropout
        self.kernels = None if tr_s is None else nn.Parameter(_unit_kernels(tr_s))
        self.num_kernels = 1 if self.kernels is None else len(self.kernels)
        num_features = num_channels * num_frequencies
        self.linear = nn.Linear(num_features, self.num_kernels * sum(sizes), bias=False)
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        # The bound of torch's linear layer, whose inputs are all features times all kernels.
        bound = (self.num_kernels * num_features) ** -0.5
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, eeg: Tensor) -> tuple[Tensor, ...]:
        """(batch, tr, channel, frequency) -> each (batch, tr, size); zeros before the first TR.

        Raises
        ------
        DataError
            If the EEG has other channels or frequencies than the model.
        """
        _check_shape(eeg, self.shape)
        features = eeg.flatten(2)
        if self.training and self.dropout:
            features = features * F.dropout(torch.ones_like(features[:, :1]), self.dropout)
        outputs = self.linear(features)
        if self.kernels is not None:
            filters = _convolution_matrices(self.kernels, eeg.shape[1])
            by_tr_and_kernel = outputs.unflatten(2, (self.num_kernels, -1)).flatten(1, 2)
            outputs = filters.movedim(0, -1).flatten(1) @ by_tr_and_kernel
        return (outputs + self.bias).split(self.sizes, dim=-1)

    def weights(self, number: int) -> Tensor:
        """Return the weights of a map as a view (kernel, output, feature)."""
        every = self.linear.weight.unflatten(0, (self.num_kernels, -1))
        return every.split(self.sizes, dim=1)[number]


def _check_shape(eeg: Tensor, shape: tuple[int, int]) -> None:
    if eeg.shape[2:] != shape:
        raise DataError(
            f"EEG has {eeg.shape[2]} channels x {eeg.shape[3]} frequencies, the model was "
            f"made for {shape[0]} x {shape[1]}",
            remedy="use EEG features with the channels and frequencies of the training data",
        )


def _unit_kernels(tr_s: float) -> Tensor:
    """HRF kernels (kernel, lag) of unit energy."""
    basis = hrf_basis(tr_s)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    return torch.tensor(basis, dtype=torch.float32)


def _convolution_matrices(kernels: Tensor, num_trs: int) -> Tensor:
    """Kernels (k, lag) -> matrices (k, tr, tr) that convolve a series, causally, with each.

    One matrix product for all features is several times faster than a convolution that has
    features as its batch, at the few hundred TRs of a recording.
    """
    trs = torch.arange(num_trs, device=kernels.device)
    lag = trs[:, None] - trs[None, :]
    num_lags = kernels.shape[1]
    inside = (lag >= 0) & (lag < num_lags)
    return kernels[:, lag.clamp(0, num_lags - 1)] * inside
