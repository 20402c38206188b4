"""Ridge regression against scikit-learn, and whether it finds a known coupling."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from eeg2fmri_dist.config.model import RidgeConfig
from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import fit_scaling
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.models import least_squares
from eeg2fmri_dist.models.hrf import canonical_hrf
from eeg2fmri_dist.models.least_squares import PENALTIES, Sums, solve_ridge
from eeg2fmri_dist.models.ridge import RidgeRegression, band_average
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.fitting.ridge import make_ridge, sum_recordings
from tests.helpers.stores import make_store

FEATURES, TARGETS = 12, 7
TR_S, CONTEXT = 2.16, 11


def recordings(count, seed, noise=1.0):
    """Features and targets that depend on them, each recording with offsets of its own."""
    generator = np.random.default_rng(seed)
    weights = np.random.default_rng(99).standard_normal((FEATURES, TARGETS))
    pairs = []
    for _ in range(count):
        features = generator.standard_normal((60, FEATURES)) @ np.diag(np.logspace(-2, 1, FEATURES))
        targets = features @ weights + noise * 5 * generator.standard_normal((60, TARGETS))
        offsets = 3 + generator.standard_normal((1, FEATURES)), generator.standard_normal(TARGETS)
        pairs.append((features + offsets[0], targets + offsets[1]))
    return pairs


def sums_of(pairs, blocks=(25, 25, 10)):
    sums = Sums.empty_for(torch.zeros(FEATURES, TARGETS))
    for features, targets in pairs:
        sums.add_recording(torch.from_numpy(features), torch.from_numpy(targets).split(blocks))
    return sums


def centered(pairs):
    """All time points, each recording centered."""
    return [
        np.concatenate([part - part.mean(0) for part in parts])
        for parts in zip(*pairs, strict=True)
    ]


def reference(pairs, penalty):
    return Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(*centered(pairs))


def test_weights_equal_scikit_learn():
    train = recordings(3, seed=0)
    solution = solve_ridge(sums_of(train), sums_of(recordings(2, seed=1)))
    expected = reference(train, solution.penalty).coef_.T
    np.testing.assert_allclose(solution.coefficients, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_prediction_is_the_mean_target():
    train = recordings(3, seed=0)
    solution = solve_ridge(sums_of(train), sums_of(recordings(2, seed=1)))
    features, targets = (np.concatenate(parts) for parts in zip(*train, strict=True))
    predicted = features @ solution.coefficients.numpy() + solution.intercept.numpy()
    np.testing.assert_allclose(predicted.mean(0), targets.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
def test_penalty_and_errors_are_those_of_brute_force(noise):
    train, validation = recordings(3, 0, noise), recordings(2, 1, noise)
    solution = solve_ridge(sums_of(train), sums_of(validation))
    features, targets = centered(validation)
    models = [reference(train, float(penalty)) for penalty in solution.penalties]
    errors = [np.square(model.predict(features) - targets).sum() for model in models]
    np.testing.assert_allclose(solution.errors + np.square(targets).sum(), errors, rtol=1e-9)
    assert solution.penalty == float(solution.penalties[np.argmin(errors)])
    train_features = centered(train)[0]
    mean_eigenvalue = np.linalg.eigvalsh(train_features.T @ train_features).mean()
    np.testing.assert_allclose(solution.penalties, PENALTIES * mean_eigenvalue, rtol=1e-9)


def test_order_of_recordings_and_size_of_blocks_do_not_matter():
    train, validation = recordings(4, seed=0), recordings(2, seed=1)
    one = solve_ridge(sums_of(train), sums_of(validation))
    other = solve_ridge(sums_of(train[::-1], (7, 53)), sums_of(validation[::-1], (60,)))
    assert one.penalty == pytest.approx(other.penalty, rel=1e-12)
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(one.intercept, other.intercept, rtol=1e-5, atol=1e-6)


def test_the_weighting_that_suits_validation_best_is_chosen():
    train, validation = recordings(3, seed=0), recordings(2, seed=1)
    choices = [np.ones(FEATURES), np.linspace(0.1, 2, FEATURES), np.arange(FEATURES) % 2 * 1.0]
    sums = sums_of(train), sums_of(validation)
    solution = solve_ridge(*sums, [torch.from_numpy(weights) for weights in choices])
    errors = []
    for weights in choices:
        weighted = [
            [(features * weights, targets) for features, targets in pairs]
            for pairs in (train, validation)
        ]
        one = solve_ridge(*map(sums_of, weighted))
        errors.append(float(one.errors.min()))
        if errors[-1] == min(errors):
            expected, chosen = weights[:, None] * one.coefficients.numpy(), weights
    np.testing.assert_array_equal(solution.weighting, chosen)
    assert float(solution.errors.min()) == pytest.approx(min(errors), rel=1e-9)
    np.testing.assert_allclose(solution.coefficients, expected, rtol=1e-4, atol=1e-6)
    only_odd = solve_ridge(*sums, [torch.from_numpy(choices[2])])
    assert not only_odd.coefficients[::2].any()
    assert only_odd.coefficients[1::2].all()


def test_features_are_freed_from_the_trend_that_targets_were_freed_from():
    """As if the trend stood beside the features, without a penalty: Frisch and Waugh."""
    (features, targets), validation = recordings(1, seed=0)[0], recordings(2, seed=1)
    time = np.linspace(-1, 1, 60)
    features = features + 30 * time[:, None] ** 2  # a drift of electrodes
    basis = np.linalg.qr(np.stack([time**0, time, time**2], axis=1))[0]
    straight = targets - basis @ (basis.T @ targets)
    sums = Sums.empty_for(torch.zeros(FEATURES, TARGETS))
    block = torch.from_numpy(straight)
    sums.add_recording(torch.from_numpy(features), [block], trend=torch.from_numpy(basis))
    solution = solve_ridge(sums, sums_of(validation))
    root = np.sqrt(solution.penalty) * np.eye(FEATURES)
    rows = np.block([[features, basis], [root, np.zeros((FEATURES, 3))]])
    wanted = np.concatenate([targets, np.zeros((FEATURES, TARGETS))])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0][:FEATURES]
    np.testing.assert_allclose(solution.coefficients, expected, rtol=1e-4, atol=1e-6)


def test_bad_input_is_refused():
    train = sums_of(recordings(2, seed=0))
    with pytest.raises(DataError, match="one has none"):
        solve_ridge(train, sums_of([]))
    still = [(np.ones((60, FEATURES)), targets) for _, targets in recordings(2, seed=0)]
    with pytest.raises(DataError, match="no EEG feature changes"):
        solve_ridge(sums_of(still), train)
    for broken in range(2):
        pair = recordings(1, seed=0)[0]
        pair[broken][5, 3] = np.nan
        with pytest.raises(DataError, match="not finite"):
            sums_of([pair])


def small_model(products=False):
    model = RidgeRegression(
        (3, 2, 1), 2, 30, context=CONTEXT, tr_s=TR_S, num_targets=3, products=products
    )
    model.bands.copy_(torch.from_numpy(band_average(np.arange(1.0, 31.0))))
    model.targets.copy_(torch.tensor([1, 0, 2, 3, 3, 0]).reshape(3, 2, 1))
    return model


def test_features_are_band_averages_through_the_hrf():
    eeg = np.zeros((CONTEXT + 60, 2, 30), np.float32)
    eeg[CONTEXT + 20, 1, 7:12] = 2  # one pulse of alpha (8-12 Hz) in the second channel
    features = small_model().band_features(torch.from_numpy(eeg)[None])[0]
    features = features.reshape(-1, 3, 2, 4).numpy()  # HRF, channel, band
    response = canonical_hrf(TR_S, duration_s=24)
    expected = 2 * lfilter(response / np.linalg.norm(response), 1, np.arange(71) == CONTEXT + 20)
    np.testing.assert_allclose(features[:, 0, 1, 2], expected, atol=1e-6)
    sooner, later = (features[:, 0, 1, 2] + sign * features[:, 1, 1, 2] for sign in (1, -1))
    assert sooner.argmax() < later.argmax()
    features[:, :, 1, 2] = 0
    assert not features.any()


def test_products_are_those_of_filtered_band_power():
    model = small_model(products=True)
    eeg = torch.randn(1, 40, 2, 30, generator=torch.Generator().manual_seed(0))
    features = model.band_features(eeg)[0].detach()
    linear, products = features.split([3 * 2 * 4, 10 * 2], dim=1)
    power = linear.unflatten(1, (3, 2, 4))[:, 0]  # canonical response, channel, band
    pairs = [power[:, :, i] * power[:, :, j] for i in range(4) for j in range(i, 4)]
    torch.testing.assert_close(products, torch.cat(pairs, dim=1))
    torch.testing.assert_close(linear, small_model().band_features(eeg)[0])


@pytest.mark.parametrize("coupling", ["square", "linear"])
def test_products_count_where_they_predict_validation_subjects(coupling):
    model, generator = small_model(products=True), torch.Generator().manual_seed(0)

    def sums_of_subjects(count):
        sums = Sums.empty_for(model.coefficients)
        for _ in range(count):
            eeg = torch.randn(1, 300, 2, 30, generator=generator)
            features = model.band_features(eeg)[0].detach()
            alpha = features[:, 2:3]  # canonical response, first channel
            drive = alpha.square() if coupling == "square" else alpha
            noise = torch.randn(len(drive), 3, generator=generator)
            sums.add_recording(features, [drive + drive.std() * noise])
        return sums

    solution = solve_ridge(sums_of_subjects(6), sums_of_subjects(3), model.weightings())
    linear, products = solution.coefficients.abs().tensor_split([model.features.size])
    if coupling == "square":
        assert products.max() > 5 * linear.max()
        model.take(solution)
        assert not model.describe_weighting().endswith("products x 0")
    else:
        assert linear.max() > 5 * products.max()


def test_bands_of_a_store_of_bands():
    np.testing.assert_array_equal(band_average(np.array([2.5, 6.0, 10.5, 21.5])), np.eye(4))
    assert band_average(np.arange(1.0, 8.0))[:, 2:].sum() == 0  # neither alpha nor beta is there
    np.testing.assert_allclose(band_average(np.arange(1.0, 31.0)).sum(0), 1, rtol=1e-6)


def test_targets_are_averaged_over_voxels_and_given_back_to_them():
    model = small_model()
    volumes = torch.tensor([[10.0, 99.0, 20.0, 1.0, 3.0, 99.0]]).reshape(1, 3, 2, 1)
    values = model.gather(volumes)
    assert values.tolist() == [[10.0, 20.0, 2.0]]
    assert model.spread(values).flatten().tolist() == [10.0, 0.0, 20.0, 2.0, 2.0, 0.0]


def test_windows_together_predict_what_the_whole_recording_does():
    model = small_model().eval()
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(model.coefficients, generator=generator)
    eeg = torch.randn(1, CONTEXT + 40, 2, 30, generator=generator)
    with torch.no_grad():
        whole = model(eeg)
        parts = [model(eeg[:, first : first + CONTEXT + 8]) for first in range(0, 40, 8)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_too_short_a_context_and_other_eeg_are_refused():
    with pytest.raises(ConfigError, match=r"set data\.context=11"):
        RidgeRegression((1, 1, 1), 2, 30, context=10, tr_s=TR_S, num_targets=1)
    with pytest.raises(DataError, match="29 frequencies"):
        small_model()(torch.zeros(1, 20, 2, 29))
    with pytest.raises(DataError, match="3 channels"):
        small_model()(torch.zeros(1, 20, 3, 30))


def fitted(path, coupling, targets):
    """Ridge regression fitted to two of six subjects and chosen on two, and the last two."""
    store = Store(make_store(path / "store.h5", n_subjects=6, n_volumes=120, coupling=coupling))
    config = DataConfig(window=1, context=12, cache="mapped")
    segments = [
        Segment(number, entry.first_sample, entry.first_sample + entry.n_samples)
        for number, entry in enumerate(store.recordings)
    ]
    parts = segments[:2], segments[2:4], segments[4:]
    scaling = fit_scaling(store, parts[0], config)
    train, validation, test = (WindowData(store, part, config, scaling) for part in parts)
    model = make_ridge(store, config.context, RidgeConfig(targets=targets))
    model.take(solve_ridge(sum_recordings(model, train), sum_recordings(model, validation)))
    return model, test


def correlation(model, data):
    """Mean temporal correlation of targets in the data's recordings."""
    rs = []
    for number in range(len(data.lengths)):
        with torch.no_grad():
            predicted = model(torch.from_numpy(data.segment("eeg", number))[None])[0]
        true = torch.from_numpy(data.segment("bold", number))
        pairs = [model.gather(volumes).numpy() for volumes in (predicted, true)]
        rs += [np.corrcoef(*pair)[0, 1] for pair in zip(*(p.T for p in pairs), strict=True)]
    return float(np.nanmean(rs))


@pytest.mark.parametrize("targets", ["voxels", "regions"])
def test_a_known_coupling_is_found_in_new_subjects(tmp_path, targets):
    model, test = fitted(tmp_path, 1.0, targets)
    assert correlation(model, test) > 0.6


def test_without_coupling_nothing_is_found(tmp_path):
    model, test = fitted(tmp_path, 0.0, "regions")
    assert abs(correlation(model, test)) < 0.2
    weights = model.coefficients.detach().abs().max()
    assert weights < 0.05  # the penalty shrinks what does not generalize


def test_regions_are_the_means_of_their_voxels(tmp_path, monkeypatch):
    """Weights are linear in targets, with the same penalty."""
    monkeypatch.setattr(least_squares, "PENALTIES", torch.ones(1, dtype=torch.float64))
    by_voxel, test = fitted(tmp_path, 1.0, "voxels")
    by_region, _ = fitted(tmp_path, 1.0, "regions")
    with torch.no_grad():
        eeg = torch.from_numpy(test.segment("eeg", 0))[None]
        regions = by_region.gather(by_voxel(eeg)[0]), by_region.gather(by_region(eeg)[0])
    torch.testing.assert_close(regions[0], regions[1], rtol=1e-3, atol=1e-4)
