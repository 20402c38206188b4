"""Models that have seen who is scored are refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.evaluation.scored_set import read_scored_set, require_unseen
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def scored_set(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("unseen") / "store.h5", n_volumes=20)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig())
    return read_scored_set(store, split)


def trained(scaling, *subjects):
    return SimpleNamespace(card=SimpleNamespace(subjects={"train": subjects}), scaling=scaling)


def test_a_model_of_the_training_subjects_is_scored(scored_set):
    require_unseen("run", trained(scored_set.scaling, "01", "02"), scored_set)


def test_a_model_that_was_trained_on_a_scored_subject_is_refused(scored_set):
    scored = scored_set.recordings[0].subject
    with pytest.raises(CheckpointError, match=f"was trained on {scored}"):
        require_unseen("run", trained(scored_set.scaling, "01", scored), scored_set)
    leaking = replace(scored_set, split=replace(scored_set.split, leaks=True))
    require_unseen("run", trained(scored_set.scaling, "01", scored), leaking)


def test_a_model_whose_scale_was_fitted_elsewhere_is_refused(scored_set):
    scaling = replace(scored_set.scaling, bold_mean=1.01 * scored_set.scaling.bold_mean)
    with pytest.raises(CheckpointError, match="scale was not fitted on the training subjects"):
        require_unseen("run", trained(scaling, "01"), scored_set)
