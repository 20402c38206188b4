"""EEG front end of the Transformer: spectra per TR -> features per TR that know the HRF."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.hrf import hrf_basis


class EegFeatures(nn.Module):
    """Flatten channel and frequency; with `tr_s`, filter each feature by HRF kernels first.

    The filters are causal and shared by all features: three numbers per feature in the next
    linear layer choose its response, which needs far less data than a kernel per feature. They
    start as the canonical HRF and two shifted copies (scaled to unit energy, so that white
    input keeps its variance) and are trained.

    Parameters
    ----------
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    tr_s : float or None
        Repetition time in s; None leaves the filters out.
    dropout : float
        Share of features set to zero in training.
    """

    def __init__(
        self, num_channels: int, num_frequencies: int, *, tr_s: float | None, dropout: float
    ):
        super().__init__()
        self.shape = (num_channels, num_frequencies)
        self.size = num_channels * num_frequencies
        self.dropout = nn.Dropout(dropout)
        self.kernels: nn.Parameter | None = None
        if tr_s is not None:
            basis = hrf_basis(tr_s)
            basis /= np.linalg.norm(basis, axis=1, keepdims=True)
            self.kernels = nn.Parameter(torch.tensor(basis, dtype=torch.float32))
            self.size *= len(basis)

    def forward(self, eeg: Tensor) -> Tensor:
        """(batch, tr, channel, frequency) -> (batch, tr, size); zeros before the first TR."""
        if eeg.shape[2:] != self.shape:
            raise DataError(
                f"EEG has {eeg.shape[2]} channels x {eeg.shape[3]} frequencies, the model was "
                f"made for {self.shape[0]} x {self.shape[1]}",
                remedy="use EEG features with the channels and frequencies of the training data",
            )
        features = eeg.flatten(2)
        if self.kernels is not None:
            filters = _convolution_matrix(self.kernels, eeg.shape[1])
            features = (filters @ features).unflatten(1, (eeg.shape[1], -1)).flatten(2)
        return self.dropout(features)


def _convolution_matrix(kernels: Tensor, num_trs: int) -> Tensor:
    """Kernels (k, lag) -> matrix (tr x k, tr) that convolves a series, causally, with each.

    One matrix product for all features is several times faster than a convolution that has
    features as its batch, at the few hundred TRs of a recording.
    """
    trs = torch.arange(num_trs, device=kernels.device)
    lag = trs[:, None] - trs[None, :]
    num_lags = kernels.shape[1]
    inside = (lag >= 0) & (lag < num_lags)
    weights = kernels[:, lag.clamp(0, num_lags - 1)] * inside  # (k, tr, tr)
    return weights.transpose(0, 1).flatten(0, 1)
