"""The ridge regression that networks are compared with: on the scale of power that suits it."""

import numpy as np
import pytest

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.baselines.ridge import fit_ridge_control
from eeg2fmri_dist.evaluation.scored_set import read_scored_set
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(params=["log", "power"])
def coupled(request, tmp_path):
    """A scale of power that BOLD follows, and recordings in which it does."""
    path = make_store(tmp_path / "store.h5", n_subjects=8, n_volumes=60, scale=request.param)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig())
    return request.param, read_scored_set(store, split)


def test_validation_subjects_choose_the_scale(coupled):
    scale, scored_set = coupled
    control = fit_ridge_control(scored_set)
    assert control.config.eeg_scale == scale
    for recording in scored_set.recordings:
        predicted = scored_set.regional_series(control.predict(recording.power))
        r = [
            np.corrcoef(*pair)[0, 1]
            for pair in zip(predicted.T, recording.true_regions.T, strict=True)
        ]
        assert np.mean(r) > 0.8
