"""Lagged ridge regression against scikit-learn, and whether it finds a known coupling."""

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models import ridge as ridge_module
from eeg2fmri_dist.models.hrf import canonical_hrf
from eeg2fmri_dist.models.ridge import LaggedRidge, lagged_features

TR_S = 2.16
FREQUENCIES_HZ = np.arange(1.0, 31.0)
CHANNELS, REGIONS = 4, 3


def recordings(count, seed, coupling=1.0, num_volumes=120):
    """Power with a slowly varying alpha amplitude, and targets that follow it through the HRF."""
    generator = np.random.default_rng(seed)
    weights = np.random.default_rng(99).standard_normal((CHANNELS, REGIONS))
    pairs = []
    for _ in range(count):
        log_alpha = generator.standard_normal((num_volumes, CHANNELS))
        eeg = generator.gamma(20, 1 / 20, (num_volumes, CHANNELS, 30))
        eeg[..., 7:12] *= np.exp(log_alpha)[..., None]
        eeg *= generator.lognormal(0, 1, (1, CHANNELS, 1))  # gain of the recording
        response = lfilter(canonical_hrf(TR_S), 1, log_alpha, axis=0)
        noise = generator.standard_normal((num_volumes, REGIONS))
        target = 5 + generator.standard_normal() + 2 * coupling * response @ weights + noise
        pairs.append((eeg.astype(np.float32), target.astype(np.float32)))
    return pairs


def fit(train, validation):
    return LaggedRidge.fit(train, validation, FREQUENCIES_HZ, TR_S)


def correlation(ridge, pairs):
    return np.mean(
        [
            np.corrcoef(ridge.predict(eeg)[:, k], target[:, k])[0, 1]
            for eeg, target in pairs
            for k in range(REGIONS)
        ]
    )


def test_coefficients_equal_scikit_learn():
    train = recordings(3, seed=0)
    ridge = fit(train, recordings(2, seed=1))
    features = np.concatenate([lagged_features(eeg, FREQUENCIES_HZ, TR_S) for eeg, _ in train])
    targets = np.concatenate([target - target.mean(0) for _, target in train])
    reference = Ridge(alpha=ridge.penalty).fit(features, targets)
    np.testing.assert_allclose(ridge.coefficients, reference.coef_.T, rtol=1e-4, atol=1e-6)
    mean = np.concatenate([target for _, target in train]).mean(0)
    np.testing.assert_allclose(ridge.intercept, mean, rtol=1e-5)


def test_penalty_is_the_best_on_validation_by_brute_force():
    train, validation = recordings(3, seed=0), recordings(2, seed=1)
    ridge = fit(train, validation)
    features = np.concatenate([lagged_features(eeg, FREQUENCIES_HZ, TR_S) for eeg, _ in train])
    targets = np.concatenate([target - target.mean(0) for _, target in train])
    penalties = ridge_module.PENALTIES * np.mean(np.sum(features**2, axis=0))
    errors = []
    for penalty in penalties:
        model = Ridge(alpha=penalty, fit_intercept=False).fit(features, targets)
        errors.append(
            sum(
                np.sum(
                    (
                        model.predict(lagged_features(eeg, FREQUENCIES_HZ, TR_S))
                        - (target - target.mean(0))
                    )
                    ** 2
                )
                for eeg, target in validation
            )
        )
    np.testing.assert_allclose(ridge.penalty, penalties[np.argmin(errors)])


def test_known_coupling_is_found_in_new_recordings():
    ridge = fit(recordings(4, seed=0), recordings(2, seed=1))
    assert correlation(ridge, recordings(2, seed=2)) > 0.6


def test_without_coupling_nothing_is_found():
    ridge = fit(recordings(4, seed=0, coupling=0.0), recordings(2, seed=1, coupling=0.0))
    test = recordings(4, seed=2, coupling=0.0)
    assert abs(correlation(ridge, test)) < 0.15
    variance = np.mean([ridge.predict(eeg).std(0) for eeg, _ in test])
    assert variance < 0.2  # the penalty shrinks what does not generalise


def test_gain_of_a_recording_does_not_matter():
    eeg, _ = recordings(1, seed=0)[0]
    gain = np.array([0.1, 1, 10, 1000])[:, None]
    before = lagged_features(eeg, FREQUENCIES_HZ, TR_S)
    after = lagged_features(eeg * gain, FREQUENCIES_HZ, TR_S)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_features_are_band_power_through_the_hrf():
    eeg = np.ones((60, 1, 30))
    eeg[20, 0, 7:12] = np.e  # one pulse of alpha (8-12 Hz)
    features = lagged_features(eeg, FREQUENCIES_HZ, TR_S).reshape(60, 3, 4)
    pulse = np.arange(60) == 20
    z_scored = (pulse - pulse.mean()) / pulse.std()
    expected = np.convolve(z_scored, canonical_hrf(TR_S, duration_s=24))[:60]
    np.testing.assert_allclose(features[:, 0, 2], expected - expected.mean(), atol=1e-6)
    assert features[:, 1, 2].argmax() < features[:, 0, 2].argmax() < features[:, 2, 2].argmax()
    np.testing.assert_allclose(features[:, :, [0, 1, 3]], 0, atol=1e-6)


def test_dead_channel_gives_finite_features_of_zero():
    eeg, _ = recordings(1, seed=0)[0]
    eeg[:, 1] = 0
    features = lagged_features(eeg, FREQUENCIES_HZ, TR_S).reshape(len(eeg), 3, 4, CHANNELS)
    assert np.isfinite(features).all()
    assert not features[..., 1].any()


def test_store_of_bands_works_as_well():
    bands_hz = np.array([2.5, 6.0, 10.5, 21.5])
    assert lagged_features(np.random.rand(50, 3, 4), bands_hz, TR_S).shape == (50, 3 * 4 * 3)


def test_recordings_are_read_one_at_a_time_from_a_generator():
    train, validation = recordings(3, seed=0), recordings(2, seed=1)
    lazy = fit(iter(train), iter(validation))
    np.testing.assert_array_equal(lazy.coefficients, fit(train, validation).coefficients)


def test_its_attributes_rebuild_it(tmp_path):
    ridge = fit(recordings(2, seed=0), recordings(1, seed=1))
    np.savez(tmp_path / "ridge.npz", **vars(ridge))
    with np.load(tmp_path / "ridge.npz") as arrays:
        again = LaggedRidge(**arrays)
    eeg, _ = recordings(1, seed=2)[0]
    np.testing.assert_array_equal(again.predict(eeg), ridge.predict(eeg))


def test_bad_input_is_refused():
    train = recordings(2, seed=0)
    with pytest.raises(DataError, match="one has none"):
        fit(train, [])
    ridge = fit(train, train)
    with pytest.raises(DataError, match="EEG with 3 channels"):
        ridge.predict(train[0][0][:, :3])
    with pytest.raises(DataError, match="29 frequencies"):
        ridge.predict(train[0][0][..., :29])
    broken = train[0][0].copy()
    broken[5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        ridge.predict(broken)
