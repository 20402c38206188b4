"""Ridge regression as a control: the strong simple model that a network has to pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from eeg2fmri_dist.config.model import RidgeConfig
from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import Scaling, normalize_eeg, to_volumes
from eeg2fmri_dist.data.windows import WindowData, with_context
from eeg2fmri_dist.evaluation.scored_set import ScoredSet
from eeg2fmri_dist.models.least_squares import solve_ridge
from eeg2fmri_dist.models.ridge import RidgeRegression, response_trs
from eeg2fmri_dist.training.fitting.eeg_scale import EEG_SCALES, EegScale
from eeg2fmri_dist.training.fitting.ridge import make_ridge, sum_recordings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RidgeControl:
    """A fitted regression and how its inputs are scaled.

    Attributes
    ----------
    model : RidgeRegression
    config : DataConfig
        Log power or power.
    scaling : Scaling
        Of the training recordings.
    error : float
        On validation recordings, less that of each recording's mean.
    """

    model: RidgeRegression
    config: DataConfig
    scaling: Scaling
    error: float

    @torch.no_grad()
    def predict(self, power: np.ndarray) -> np.ndarray:
        """EEG features as stored (volume, channel, frequency) -> volumes (volume, x, y, z)."""
        eeg = with_context(normalize_eeg(power, self.config, self.scaling), self.model.context)
        predicted = self.model(torch.from_numpy(eeg)[None])[0].numpy()
        return to_volumes(predicted, self.config, self.scaling)


def fit_ridge_control(scored_set: ScoredSet) -> RidgeControl:
    """Fit to each voxel on log power and on power; return what suits validation subjects better.

    The penalty is theirs to choose as well.
    """
    fits = (_fit(scored_set, scale) for scale in EEG_SCALES)
    best = min(fits, key=lambda control: control.error)
    logger.info("  ridge regression: EEG scale %s", best.config.eeg_scale)
    return best


def _fit(scored_set: ScoredSet, scale: EegScale) -> RidgeControl:
    store, split = scored_set.store, scored_set.split
    config = DataConfig(
        eeg_scale=scale,
        window=1,
        context=response_trs(store.recordings[0].tr_s),
        cache="mapped",
    )
    model = make_ridge(store, config.context, RidgeConfig())
    train, validation = (
        sum_recordings(model, WindowData(store, segments, config, scored_set.scaling))
        for segments in (split.train, split.validation)
    )
    solution = solve_ridge(train, validation, model.weightings())
    model.take(solution)
    return RidgeControl(model, config, scored_set.scaling, float(solution.errors.min()))
