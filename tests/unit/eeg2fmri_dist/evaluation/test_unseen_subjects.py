"""Models that have seen who is scored are refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.evaluation.scored_set import read_test_set, require_unseen
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("unseen") / "store.h5", n_volumes=20)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig())
    return read_test_set(store, split)


def trained(scaling, *subjects):
    return SimpleNamespace(card=SimpleNamespace(subjects={"train": subjects}), scaling=scaling)


def test_a_model_of_the_training_subjects_is_scored(test_set):
    require_unseen("run", trained(test_set.scaling, "01", "02"), test_set)


def test_a_model_that_was_trained_on_a_scored_subject_is_refused(test_set):
    scored = test_set.recordings[0].subject
    with pytest.raises(CheckpointError, match=f"was trained on {scored}"):
        require_unseen("run", trained(test_set.scaling, "01", scored), test_set)
    leaking = replace(test_set, split=replace(test_set.split, leaks=True))
    require_unseen("run", trained(test_set.scaling, "01", scored), leaking)


def test_a_model_whose_scale_was_fitted_elsewhere_is_refused(test_set):
    scaling = replace(test_set.scaling, bold_mean=1.01 * test_set.scaling.bold_mean)
    with pytest.raises(CheckpointError, match="scale was not fitted on the training subjects"):
        require_unseen("run", trained(scaling, "01"), test_set)
