"""A step of the linear map from EEG to BOLD toward one subject, in closed form.

A few minutes of EEG and BOLD of a subject, recorded together, tell how the subject differs from
those whom a model was trained on. Ridge regression of what the model leaves unexplained, on band
power through the HRF, is ridge regression toward the model: with little data, or a large penalty,
it stays there. In a model with a linear skip it is a step of the skip; beside others it is a skip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eeg2fmri_dist.data.windows import with_context
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.models.eeg_features import EegFeatures
from eeg2fmri_dist.models.ridge import band_average, response_trs

# How large weights of an earlier or a wider response are expected to be beside the others.
_SHAPE_WEIGHT = 0.3


@dataclass(frozen=True)
class RidgeUpdate:
    """What to add to a model's predictions for a person; see `fit_step`.

    Attributes
    ----------
    features : ndarray of shape (scan volume, feature)
        Of the scan, centered.
    mean : ndarray of shape (feature,)
        That was taken off.
    weights : ndarray of shape (scan volume, target)
        Dual coefficients: as many as there are volumes, however many features.
    intercept : ndarray of shape (target,)
        Mean of what the model left.
    """

    features: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (volume, feature) -> what to add (volume, target)."""
        return (features - self.mean) @ self.features.T @ self.weights + self.intercept


def fit_step(features: np.ndarray, residual: np.ndarray, penalty: float) -> RidgeUpdate:
    """Fit a step to a scan.

    Parameters
    ----------
    features : ndarray of shape (volume, feature)
        Of the EEG of the scan, see `person_features`.
    residual : ndarray of shape (volume, target)
        Measured BOLD less the model's prediction, voxels or regions.
    penalty : float
        In units of the mean square of a volume's features. The longer the scan, the further the
        step goes at the same penalty.
    """
    mean, intercept = features.mean(axis=0), residual.mean(axis=0)
    centered = features - mean
    products = centered @ centered.T
    size = np.trace(products) / len(products)
    ridge = products + penalty * max(size, np.finfo(float).tiny) * np.eye(len(products))
    return RidgeUpdate(centered, mean, np.linalg.solve(ridge, residual - intercept), intercept)


@torch.no_grad()
def person_features(trained: TrainedModel, eeg: np.ndarray) -> np.ndarray:
    """Return band power through the HRF, the features of ridge regression, (volume, feature).

    Parameters
    ----------
    trained : TrainedModel
        Says which channels, frequencies and TR the EEG has.
    eeg : ndarray of shape (volume, channel, frequency)
        Of a whole recording, normalized as the model wants it.
    """
    card = trained.card
    bands = torch.from_numpy(band_average(np.asarray(card.frequencies_hz)))
    filters = EegFeatures(len(card.channel_names), bands.shape[1], tr_s=card.tr_s)
    filters.kernels[1:] *= _SHAPE_WEIGHT
    context = response_trs(card.tr_s)
    power = torch.from_numpy(with_context(eeg, context)) @ bands
    return filters(power[None])[0, context:].double().numpy()
