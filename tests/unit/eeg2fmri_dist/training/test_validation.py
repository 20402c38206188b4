"""Scores while a model trains: a collapse to the mean image is seen at once."""

import functools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.controls import shifted_eeg, true_eeg
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.baselines.eeg_controls import free_running
from eeg2fmri_dist.evaluation.scored_set import Scope, read_scored_set
from eeg2fmri_dist.inference.model_file import load_model
from eeg2fmri_dist.inference.objectives import Objective
from eeg2fmri_dist.inference.predict import objective_of
from eeg2fmri_dist.models.hrf import canonical_hrf
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.split_data import open_data
from eeg2fmri_dist.training.distributed.preemption import StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.store_facts import store_regions
from eeg2fmri_dist.training.validation import Validator, is_clear_gain
from tests.helpers.models import UNET, save_untrained
from tests.helpers.stores import make_store

ALONE = Ranks(0, 1, 0, 1, "alone")
CONTEXT = 12


class MeanImage(Objective):
    """Ignores the EEG."""

    def predict(self, batch):
        window = batch["eeg"].shape[1] - CONTEXT
        return torch.zeros(len(batch["eeg"]), window, *self.mask.shape)


class AlphaThroughHrf(Objective):
    """Gives every voxel the mean alpha power through the HRF, which half drives the BOLD."""

    def predict(self, batch):
        alpha = batch["eeg"][:, :, :, 7:12].mean(dim=(2, 3)).numpy()
        response = canonical_hrf(2.0)
        drive = np.array([np.convolve(row, response)[: len(row)] for row in alpha])[:, CONTEXT:]
        drive = torch.from_numpy(drive.astype(np.float32))
        return drive[:, :, None, None, None].expand(*drive.shape, *self.mask.shape)


class Still:
    """Stands for the heartbeat."""

    def note_progress(self):
        pass


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    values = {
        "store": make_store(folder / "store.h5", n_subjects=4, n_volumes=200),
        "output": folder / "run",
        "model": {"name": "unet"},
        "data": {"context": CONTEXT, "window": 200},
    }
    return TrainConfig.model_validate(values)


def scores_of(kind, config):
    store = Store(config.store)
    data = open_data(config, store, ALONE)
    mask = torch.from_numpy(store.layout.mask.copy())
    parts = data.train, data.validation, store_regions(store), config.optimization
    stop = StopRequest()
    try:
        validator = Validator(*parts, Session(ALONE, torch.device("cpu"), stop, Still()))
        return validator.score(kind(nn.Identity(), mask))
    finally:
        stop.close()


def test_a_mean_image_loses_nothing_by_shifted_eeg_and_does_not_change(config):
    scores = scores_of(MeanImage, config).means
    assert scores["validation/shift_gap"] == 0
    assert scores["validation/std_ratio"] == pytest.approx(0, abs=1e-3)


def test_a_model_that_follows_the_eeg_loses_its_score_with_the_eeg(config):
    scores = scores_of(AlphaThroughHrf, config).means
    assert scores["validation/r_region"] > 0.3
    assert scores["validation/shift_gap"] > 0.3
    assert 0.05 < scores["validation/std_ratio"] < 3


@pytest.mark.parametrize("checkpoint_metric", ["r_region", "loss"])
def test_each_validation_subject_has_a_selection_score(config, checkpoint_metric):
    chosen = config.optimization.model_copy(update={"checkpoint_metric": checkpoint_metric})
    found = scores_of(AlphaThroughHrf, config.model_copy(update={"optimization": chosen}))
    sign = -1 if checkpoint_metric == "loss" else 1
    assert found.selection == sign * found.means[f"validation/{checkpoint_metric}"]
    store = Store(config.store)
    parts = make_split(store.recordings, config.split)
    subjects = {store.recordings[segment.recording].subject for segment in parts.validation}
    assert set(found.selection_by_subject) == subjects
    assert np.mean(list(found.selection_by_subject.values())) == pytest.approx(found.selection)


@pytest.mark.parametrize("normalize", ["voxelwise", "global"])
def test_validation_scores_regions_as_a_report_does(tmp_path, normalize):
    """An untrained model, on two validation subjects of whom one was recorded twice."""
    path = make_store(tmp_path / "store.h5", n_subjects=5, n_volumes=70, runs={"03": 2})
    settings = {
        "split": {"fractions": (0.4, 0.4, 0.2)},
        "data": {"window": 16, "context": 4, "normalize": normalize, "detrend_order": 2},
    }
    config = TrainConfig.model_validate(
        {"store": path, "output": tmp_path / "run", "model": UNET, **settings}
    )
    store = Store(path)
    save_untrained(tmp_path / "model.safetensors", store, UNET, **settings)
    trained = load_model(tmp_path / "model.safetensors")
    data = open_data(config, store, ALONE)
    stop = StopRequest()
    try:
        parts = data.train, data.validation, store_regions(store), config.optimization
        validator = Validator(*parts, Session(ALONE, torch.device("cpu"), stop, Still()))
        validator.score(objective_of(trained))
        found = validator.score(objective_of(trained))
    finally:
        stop.close()
    scored_set = read_scored_set(store, data.split, Scope(subjects="validation"))
    assert len(scored_set.recordings) == 3
    free, shifted = (
        scored_set.row(name, functools.partial(free_running, trained, change=change))
        for name, change in (("eeg_only", true_eeg), ("shifted", shifted_eeg))
    )
    for score in ("r_region", "std_ratio"):
        expected = free.interval(score).mean
        assert found.means[f"validation/{score}"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    gap = free.interval("r_region").mean - shifted.interval("r_region").mean
    assert found.means["validation/shift_gap"] == pytest.approx(gap, abs=1e-5)
    assert found.selection_by_subject == pytest.approx(free.values("r_region"), abs=1e-5)
    assert abs(found.selection) > 1e-3


def test_a_gain_is_clear_where_it_exceeds_its_standard_error():
    """The paired t statistic says the same (SciPy)."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(200):
        before = {f"{n:02}": r for n, r in enumerate(rng.normal(0.4, 0.1, 4))}
        after = {subject: r + rng.normal(0.003, 0.01) for subject, r in before.items()}
        t = stats.ttest_rel([after[s] for s in before], list(before.values())).statistic
        verdicts.append(is_clear_gain(after, before, 1.0))
        assert verdicts[-1] == (t > 1.0)
        assert is_clear_gain(after, before, 0.0) == (t > 0)
    assert 20 < sum(verdicts) < 180


def test_with_one_validation_subject_every_gain_is_clear():
    assert is_clear_gain({"01": 0.31}, {"01": 0.30}, 1.0)
    assert not is_clear_gain({"01": 0.30}, {"01": 0.30}, 1.0)
