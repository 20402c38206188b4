"""A step toward one subject: what it is, what it learns, what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from eeg2fmri_dist.calibration.ridge_update import fit_step, person_features
from eeg2fmri_dist.config.model import RidgeConfig
from eeg2fmri_dist.config.train import DataConfig, SplitConfig
from eeg2fmri_dist.data.normalization import normalize_eeg
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.scored_set import Scope, read_scored_set
from eeg2fmri_dist.evaluation.with_scan.adaptation import PENALTIES, KeptMeans, score_adapted
from eeg2fmri_dist.inference.model_file import ModelCard, TrainedModel
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.fitting.ridge import make_ridge
from tests.helpers.stores import make_store

SCAN = 40


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("store") / "store.h5", n_subjects=12, n_volumes=100)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig(fractions=(0.3, 0.35, 0.35)))
    return [read_scored_set(store, split, Scope(subjects=part)) for part in ("test", "validation")]


@pytest.fixture(scope="module")
def trained(parts):
    """What a step needs to know of a model."""
    store, scaling = parts[0].store, parts[0].scaling
    layout = store.layout
    names, frequencies = list(layout.channel_names), layout.frequencies_hz.tolist()
    card = ModelCard(
        recipe="default",
        model={"name": "ridge"},
        tokenizer=None,
        data=DataConfig().model_dump(mode="json"),
        preprocessing={},
        channel_names=names,
        frequencies_hz=frequencies,
        tr_s=store.recordings[0].tr_s,
        affine=layout.affine.tolist(),
        space="MNI",
        store_fingerprint=store.fingerprint,
        subjects={},
    )
    return TrainedModel(make_ridge(store, 12, RidgeConfig()), card, scaling, layout.mask)


def features_of(trained, recording):
    return person_features(trained, normalize_eeg(recording.power, trained.data, trained.scaling))


def with_own_bold(scored, trained, share):
    """Recordings whose BOLD follows their EEG in a way of their own, and a constant image."""
    recordings = []
    for number, recording in enumerate(scored.recordings):
        features = features_of(trained, recording)
        rng = np.random.default_rng(number)
        own = features @ rng.standard_normal((features.shape[1], len(scored.regions)))
        own = 0.01 * share * (own - own.mean(axis=0)) / own.std(axis=0)
        noise = 0.01 * (1 - share) * rng.standard_normal(own.shape)
        change = np.pad(own + noise, ((0, 0), (1, 0)))[:, scored.regions.labels]
        true = (scored.scaling.reference * (1 + change)).astype(np.float32)
        recordings.append(replace(recording, true=true))
    return replace(scored, recordings=tuple(recordings))


def constant(scored):
    def predict(recording, _):
        return np.repeat(scored.scaling.reference[None], len(recording.true), axis=0)

    return KeptMeans(predict, scored.regions).means


def test_a_step_is_ridge_regression_of_what_is_left():
    rng = np.random.default_rng(0)
    features, residual = rng.normal(2, 1, (30, 50)), rng.normal(1, 1, (30, 4))
    step = fit_step(features, residual, 3.0)
    centered = features - features.mean(axis=0)
    theirs = Ridge(alpha=3.0 * (centered**2).sum() / 30).fit(features, residual)
    new = rng.normal(2, 1, (7, 50))
    np.testing.assert_allclose(step(new), theirs.predict(new), rtol=1e-6)


def test_a_large_penalty_leaves_the_model_where_it_is():
    rng = np.random.default_rng(0)
    features, residual = rng.normal(size=(30, 50)), rng.normal(size=(30, 4))
    changes = fit_step(features, residual, 1e9)(features) - residual.mean(axis=0)
    assert np.abs(changes).max() < 1e-6


def test_features_are_those_of_ridge_regression(parts, trained):
    recording = parts[0].recordings[0]
    eeg = normalize_eeg(recording.power, trained.data, trained.scaling)
    import torch

    ridge = trained.model
    padded = np.concatenate([np.zeros((12, *eeg.shape[1:]), eeg.dtype), eeg])
    with torch.no_grad():
        expected = ridge.band_features(torch.from_numpy(padded)[None])[0, 12:]
    expected[:, expected.shape[1] // 3 :] *= 0.3  # earlier and wider responses
    np.testing.assert_allclose(features_of(trained, recording), expected, atol=1e-5)


def test_what_only_this_person_has_is_learnt_from_the_scan(parts, trained):
    test, validation = (with_own_bold(part, trained, 0.8) for part in parts)
    (found,) = score_adapted(trained, constant(test), test, validation, [0, SCAN])
    assert found.volumes == SCAN
    assert found.penalty in PENALTIES
    assert found.before.mean == pytest.approx(0, abs=1e-6)  # a constant image
    assert found.true_eeg.low > 0.3
    assert found.gain.mean == pytest.approx(found.true_eeg.mean, abs=1e-6)
    assert abs(found.shifted_eeg.mean) < 0.15


def test_where_validation_subjects_are_better_without_nobody_is_adapted_to(parts, trained):
    test, validation = (with_own_bold(part, trained, 0.8) for part in parts)

    def perfect(scored):
        truth = {recording.subject: recording.true for recording in scored.recordings}
        return lambda recording, _: truth[recording.subject]

    predict = perfect(replace(test, recordings=test.recordings + validation.recordings))
    means = KeptMeans(predict, test.regions).means
    (found,) = score_adapted(trained, means, test, validation, [SCAN])
    assert found.penalty is None
    assert found.true_eeg == found.before


def test_two_validation_subjects_are_too_few_to_choose(parts, trained):
    test, validation = (with_own_bold(part, trained, 0.8) for part in parts)
    two = replace(validation, recordings=validation.recordings[:2])
    (found,) = score_adapted(trained, constant(test), test, two, [SCAN])
    assert found.penalty is None
    assert found.gain.mean == 0


def test_no_scored_volume_reaches_the_step(parts, trained):
    test, validation = (with_own_bold(part, trained, 0.8) for part in parts)
    backwards = [
        replace(
            recording, true=np.concatenate([recording.true[:SCAN], recording.true[SCAN:][::-1]])
        )
        for recording in test.recordings
    ]
    other = replace(test, recordings=tuple(backwards))
    (found,) = score_adapted(trained, constant(test), other, validation, [SCAN])
    # BOLD after the scan runs backwards: what was learned in the scan does not help there.
    assert found.true_eeg.mean < 0.15


def test_a_recording_is_predicted_once(parts):
    asked = []

    def predict(recording, change):
        asked.append((recording.subject, change))
        return recording.true

    kept = KeptMeans(predict, parts[0].regions)
    first, second = parts[0].recordings[:2]
    kept.volumes(first, np.copy)
    kept.means(first, np.copy)
    kept.means(first, np.flip)
    kept.means(second, np.copy)
    kept.means(second, np.copy)
    assert asked == [
        (first.subject, np.copy), (first.subject, np.flip), (second.subject, np.copy),
    ]  # fmt: skip
