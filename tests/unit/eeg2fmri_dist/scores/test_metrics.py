"""Scores against scikit-image, scipy and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.linear_model import LinearRegression
from sklearn.metrics import explained_variance_score, root_mean_squared_error

from eeg2fmri_dist.data.controls import shifted_eeg
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.evaluation import reference_baselines
from eeg2fmri_dist.scores import metrics, ssim, temporal
from eeg2fmri_dist.scores.networks import Regions

GRID = (16, 14, 13)


@pytest.fixture(scope="module")
def recording():
    """Truth, a noisy prediction, brain mask and four regions."""
    rng = np.random.default_rng(0)
    anatomy = rng.uniform(400, 1200, GRID)
    mask = np.zeros(GRID, bool)
    mask[2:14, 2:12, 1:12] = True
    labels = np.where(mask, 1 + np.arange(GRID[0])[:, None, None] // 4, 0)
    regions = Regions.within(mask, labels, ["a", "b", "c", "d"], "four slabs")
    series = rng.normal(size=(20, len(regions) + 1))
    series[:, 0] = 0
    true = anatomy * (1 + 0.02 * series[:, regions.labels]) * mask
    predicted = true + 30 * rng.normal(size=true.shape)
    return true.astype(np.float32), predicted.astype(np.float32), mask, regions


def score_all(predicted, true, mask, regions, **options):
    return metrics.score_recording(
        predicted, true, mask, regions, bold_mean=500.0, bold_std=300.0, **options
    )


def score(predicted, true, mask, regions, **options):
    return score_all(predicted, true, mask, regions, **options).means


def reference_ssim(predicted, true, data_range):
    """Mean and map of scikit-image in Wang's settings."""
    return structural_similarity(
        predicted.astype(np.float64),
        true.astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )


def test_scores_of_a_volume_equal_scikit_image(recording):
    true, predicted, mask, regions = recording
    volumes = score_all(predicted, true, mask, regions, ssim_every=3).volumes
    data_range = float(true.max() - true.min())
    for index in (0, 6, 19):
        psnr_db = peak_signal_noise_ratio(true[index], predicted[index], data_range=data_range)
        assert volumes["psnr_zscore_db"][index] == pytest.approx(psnr_db, rel=1e-5)
    expected, _ = reference_ssim(predicted[6] / 300, true[6] / 300, data_range / 300)
    assert volumes["ssim3d_zscore"][6] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(volumes["ssim3d_zscore"]).sum() == 13
    inside = ((predicted - true)[6, mask] / 300.0) ** 2
    assert volumes["mse_zscore_masked"][6] == pytest.approx(inside.mean(), rel=1e-5)


def test_psnr_and_mse_equal_scikit_image(recording):
    true, predicted, mask, _ = recording
    assert metrics.psnr(predicted, true, 1200) == pytest.approx(
        peak_signal_noise_ratio(true, predicted, data_range=1200), rel=1e-6
    )
    assert metrics.psnr(predicted, true, 1200, mask) == pytest.approx(
        peak_signal_noise_ratio(true[:, mask], predicted[:, mask], data_range=1200), rel=1e-6
    )


def test_psnr_by_hand():
    true = np.zeros((2, 3, 3, 3))
    assert metrics.mse(true + 0.1, true) == pytest.approx(0.01)
    assert metrics.psnr(true + 0.1, true, 1.0) == pytest.approx(20.0)
    assert metrics.psnr(true, true, 1.0) == np.inf


def test_published_loss_and_psnr_agree_for_the_range_that_is_stated():
    true = np.zeros((1, 2, 2, 2))
    predicted = true + np.sqrt(0.20899)
    assert metrics.psnr(predicted, true, 9.04) == pytest.approx(25.92, abs=0.01)


def test_ssim_3d_equals_scikit_image(recording):
    true, predicted, mask, _ = recording
    references = [
        reference_ssim(p, t, 1200.0) for p, t in zip(predicted[:3], true[:3], strict=True)
    ]
    mean = np.mean([value for value, _ in references])
    masked = np.mean([full[mask].mean() for _, full in references])
    assert ssim.ssim_3d(predicted[:3], true[:3], 1200.0) == pytest.approx(mean, abs=1e-9)
    assert ssim.ssim_3d(predicted[:3], true[:3], 1200.0, mask) == pytest.approx(masked, abs=1e-9)


def test_ssim_2d_equals_scikit_image_on_each_slice(recording):
    true, predicted, mask, _ = recording
    references = [
        reference_ssim(predicted[volume, :, :, z], true[volume, :, :, z], 1200.0)
        for volume in range(2)
        for z in range(GRID[2])
    ]
    mean = np.mean([value for value, _ in references])
    maps = np.stack([full for _, full in references]).reshape(2, GRID[2], *GRID[:2])
    masked = np.moveaxis(maps, 1, -1)[:, mask].mean()
    assert ssim.ssim_2d(predicted[:2], true[:2], 1200.0) == pytest.approx(mean, abs=1e-9)
    assert ssim.ssim_2d(predicted[:2], true[:2], 1200.0, mask) == pytest.approx(masked, abs=1e-9)


def test_ssim_without_a_mask_is_the_mean_over_whole_windows(recording):
    true, predicted, _, _ = recording
    interior = np.zeros(GRID, bool)
    interior[5:-5, 5:-5, 5:-5] = True
    unmasked = ssim.ssim_3d(predicted, true, 1200.0)
    assert unmasked == pytest.approx(ssim.ssim_3d(predicted, true, 1200.0, interior))
    small = np.ones((1, 8, 8, 8)), np.ones((1, 8, 8, 8))
    assert np.isnan(ssim.ssim_3d(*small, 1.0))


def test_paper_convention_is_what_its_name_says(recording):
    true, predicted, mask, regions = recording
    scores = score(predicted, true, mask, regions)
    z_true, z_predicted = (true - 500.0) / 300.0, (predicted - 500.0) / 300.0
    data_range = float(z_true.max() - z_true.min())
    assert scores["data_range_zscore"] == pytest.approx(data_range, rel=1e-5)
    assert scores["mse_zscore"] == pytest.approx(np.mean((z_true - z_predicted) ** 2), rel=1e-4)
    assert scores["psnr_zscore_db"] == pytest.approx(
        peak_signal_noise_ratio(z_true, z_predicted, data_range=data_range), rel=1e-5
    )
    assert scores["psnr_zscore_masked_db"] == pytest.approx(
        peak_signal_noise_ratio(z_true[:, mask], z_predicted[:, mask], data_range=data_range),
        rel=1e-5,
    )
    assert scores["ssim3d_zscore"] == pytest.approx(
        np.mean(
            [reference_ssim(p, t, data_range)[0] for p, t in zip(z_predicted, z_true, strict=True)]
        ),
        abs=1e-5,
    )


def test_peer_convention_is_what_its_name_says(recording):
    true, predicted, mask, regions = recording
    scores = score(predicted, true, mask, regions)
    pairs = [
        [(volume - volume.min()) / (volume.max() - volume.min()) for volume in pair]
        for pair in zip(true, predicted, strict=True)
    ]
    assert scores["psnr_minmax_db"] == pytest.approx(
        np.mean([peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs]), rel=1e-5
    )
    slices = [
        reference_ssim(pair[1][..., z], pair[0][..., z], 1.0)[0]
        for pair in pairs
        for z in range(GRID[2])
    ]
    assert scores["ssim2d_minmax"] == pytest.approx(np.mean(slices), abs=1e-5)


def test_peer_convention_forgives_gain_and_offset(recording):
    true, predicted, mask, _ = recording
    plain = metrics.peer_convention(predicted, true, mask)
    scaled = metrics.peer_convention(predicted * 3 + 50, true, mask)
    assert scaled["psnr_minmax_db"] == pytest.approx(plain["psnr_minmax_db"], abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(chunk=st.integers(1, 25), every=st.integers(1, 6))
def test_chunk_size_does_not_matter(recording, chunk, every):
    true, predicted, mask, regions = recording
    whole = score(predicted, true, mask, regions, ssim_every=every, chunk=len(true))
    pieces = score(predicted, true, mask, regions, ssim_every=every, chunk=chunk)
    assert pieces == pytest.approx(whole, rel=1e-9, nan_ok=True)
    subset = metrics.paper_convention(
        predicted[::every], true[::every], mask, bold_mean=500.0, bold_std=300.0
    ).means
    if subset["data_range_zscore"] == whole["data_range_zscore"]:
        assert whole["ssim2d_zscore"] == pytest.approx(subset["ssim2d_zscore"])


def test_mask_of_ones_is_no_mask(recording):
    true, predicted, _, regions = recording
    scores = score(predicted, true, np.ones(GRID, bool), regions)
    for convention in ("zscore", "minmax"):
        assert scores[f"mse_{convention}"] == pytest.approx(scores[f"mse_{convention}_masked"])
        unmasked, masked = scores[f"psnr_{convention}_db"], scores[f"psnr_{convention}_masked_db"]
        assert unmasked == pytest.approx(masked)


def test_what_lies_outside_the_mask_changes_no_masked_error(recording):
    true, predicted, mask, regions = recording
    other = np.where(mask, predicted, predicted * 1.5)
    before, after = (score(p, true, mask, regions) for p in (predicted, other))
    for name in ("mse_zscore_masked", "psnr_zscore_masked_db", "r_voxel"):
        assert after[name] == pytest.approx(before[name])
    assert after["mse_zscore"] != pytest.approx(before["mse_zscore"])


def test_voxelwise_r_equals_scipy(recording):
    true, predicted, mask, _ = recording
    scores, _ = metrics.voxelwise(predicted, true, mask)
    for index in (0, 7, len(scores) - 1):
        x, y, z = (axis[index] for axis in np.nonzero(mask))
        expected = stats.pearsonr(predicted[:, x, y, z], true[:, x, y, z]).statistic
        assert scores[index] == pytest.approx(expected, abs=1e-6)


def test_explained_variance_equals_scikit_learn(recording):
    true, predicted, mask, regions = recording
    _, of_voxels = metrics.voxelwise(predicted, true, mask)
    expected = explained_variance_score(true[:, mask], predicted[:, mask], multioutput="raw_values")
    np.testing.assert_allclose(of_voxels, expected, rtol=1e-4, atol=1e-5)
    true, predicted = (temporal.detrend(volumes, 1) for volumes in (true, predicted))
    scores = score(predicted, true, mask, regions)
    expected = explained_variance_score(true[:, mask], predicted[:, mask], multioutput="raw_values")
    assert scores["ev_voxel"] == pytest.approx(expected.mean(), rel=1e-4)
    of_true, of_predicted = (
        np.stack([volumes[:, regions.labels == k].mean(axis=1, dtype=float) for k in range(1, 5)])
        for volumes in (true, predicted)
    )
    expected = explained_variance_score(of_true.T, of_predicted.T)
    assert scores["ev_region"] == pytest.approx(expected, rel=1e-4)


def test_root_mean_squared_error_equals_scikit_learn(recording):
    true, predicted, mask, regions = recording
    scores = score(predicted, true, mask, regions)
    for name, chosen in (("rmse_zscore", ...), ("rmse_zscore_masked", (slice(None), mask))):
        expected = root_mean_squared_error(true[chosen].ravel(), predicted[chosen].ravel())
        assert scores[name] == pytest.approx(expected / 300.0, rel=1e-4)


def test_region_scores_equal_scipy(recording):
    true, predicted, mask, regions = recording
    true, predicted = (temporal.detrend(volumes, 1) for volumes in (true, predicted))
    scores = score(predicted, true, mask, regions)
    of_true, of_predicted = (
        np.stack([volumes[:, regions.labels == k].mean(axis=1, dtype=float) for k in range(1, 5)])
        for volumes in (true, predicted)
    )
    r = [stats.pearsonr(p, t).statistic for p, t in zip(of_predicted, of_true, strict=True)]
    assert scores["r_region"] == pytest.approx(np.mean(r), abs=1e-6)
    ratios = of_predicted.std(axis=1) / of_true.std(axis=1)
    assert scores["std_ratio"] == pytest.approx(ratios.mean(), rel=1e-5)
    upper = np.triu_indices(4, 1)
    expected = stats.pearsonr(np.corrcoef(of_predicted)[upper], np.corrcoef(of_true)[upper])
    assert scores["fc_similarity"] == pytest.approx(expected.statistic, abs=1e-5)


def test_perfect_prediction(recording):
    true, _, mask, regions = recording
    scores = score(true, true, mask, regions)
    for name in ("r_voxel", "r_region", "std_ratio", "fc_similarity", "ssim2d_zscore"):
        assert scores[name] == pytest.approx(1.0)
    assert scores["psnr_zscore_db"] == scores["psnr_minmax_masked_db"] == np.inf


def test_constant_prediction_scores_zero_over_time_yet_a_high_ssim(recording):
    true, _, mask, regions = recording
    scores = score(reference_baselines.subject_mean(true), true, mask, regions)
    for name in ("r_voxel", "r_region", "std_ratio", "fc_similarity"):
        assert scores[name] == pytest.approx(0.0, abs=1e-9)
    assert scores["ssim2d_zscore"] > 0.95


def test_sign_flipped_prediction_scores_minus_one(recording):
    true, _, mask, regions = recording
    flipped = 2 * true.mean(axis=0) - true
    scores = score(flipped, true, mask, regions)
    assert scores["r_region"] == pytest.approx(-1.0, abs=1e-4)
    assert scores["std_ratio"] == pytest.approx(1.0, rel=1e-3)
    assert scores["fc_similarity"] == pytest.approx(1.0, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    gain=st.floats(1e-3, 1e3),
    offset=st.floats(-100, 100),
    length=st.integers(5, 60),
)
def test_r_ignores_gain_and_offset(seed, gain, offset, length):
    predicted, true = np.random.default_rng(seed).normal(size=(2, length, 3))
    plain = temporal.temporal_correlation(predicted, true)
    moved = temporal.temporal_correlation(predicted * gain + offset * gain, true)
    assert moved == pytest.approx(plain, abs=1e-6)
    assert temporal.temporal_correlation(-predicted, true) == pytest.approx(-plain)


def test_rounding_noise_counts_as_constant():
    rng = np.random.default_rng(0)
    constant = np.nextafter(
        np.full((50, 4), 700, np.float32), rng.choice([0, 1000], (50, 4)).astype(np.float32)
    )
    assert not temporal.temporal_correlation(constant, rng.normal(size=(50, 4))).any()


def test_detrend_removes_drift_and_keeps_the_mean_and_the_rest():
    time = np.linspace(0, 1, 60)
    wave = np.sin(2 * np.pi * 6 * time)
    drifting = (wave + 40 * time + 100)[:, None]
    detrended = temporal.detrend(drifting, order=1)
    assert detrended.mean() == pytest.approx(drifting.mean())
    expected = np.polynomial.Polynomial.fit(time, drifting[:, 0], 1)
    assert detrended[:, 0] - detrended.mean() == pytest.approx(drifting[:, 0] - expected(time))
    assert temporal.detrend((40 * time + 100)[:, None], 1).std() == 0.0


def test_drift_in_both_is_no_skill(recording):
    true, _, mask, regions = recording
    drift = 0.1 * np.linspace(0, 1, len(true), dtype=np.float32)[:, None, None, None]
    predicted = reference_baselines.subject_mean(true) * (1 + drift)
    drifting_truth = true * (1 + drift)
    assert metrics.voxelwise(predicted, drifting_truth, mask)[0].mean() > 0.5
    assert abs(score(predicted, drifting_truth, mask, regions)["r_region"]) < 1e-3


def test_the_global_signal_is_removed_as_by_linear_regression():
    rng = np.random.default_rng(3)
    series = 5 + rng.standard_normal((40, 6)) + np.outer(rng.standard_normal(40), np.arange(6))
    course = series.mean(axis=1, keepdims=True)
    fitted = LinearRegression().fit(course, series).predict(course)
    expected = series - fitted + series.mean(axis=0)
    np.testing.assert_allclose(temporal.without_global(series), expected, atol=1e-10)


def test_a_prediction_of_the_global_signal_alone_is_no_specific_skill():
    rng = np.random.default_rng(4)
    shared, own = rng.standard_normal(60), rng.standard_normal((60, 8))
    true = 1000 + 5 * np.outer(shared, rng.uniform(0.5, 1.5, 8)) + own
    # Exactly global, in float32 as volumes are: what is left is rounding.
    predicted = (1000 + np.outer(shared, rng.uniform(0.5, 1.5, 8))).astype(np.float32)
    assert temporal.temporal_correlation(predicted, true).mean() > 0.9
    assert abs(metrics.specific_correlation(predicted, true)) < 0.25 / np.sqrt(60)
    assert metrics.specific_correlation(true, true) == pytest.approx(1)


def test_shifted_eeg_keeps_every_value_and_loses_the_match_in_time():
    eeg = np.arange(12, dtype=np.float32).reshape(6, 2, 1)
    shifted = shifted_eeg(eeg)
    assert sorted(shifted.ravel()) == sorted(eeg.ravel())
    assert shifted[:, 0, 0].tolist() == [6, 8, 10, 0, 2, 4]


def test_copy_of_the_last_volume_has_no_outlier_where_there_is_none_before(recording):
    true, *_ = recording
    copied = reference_baselines.last_volume(true)
    np.testing.assert_array_equal(copied[0], true[0])
    np.testing.assert_array_equal(copied[1:], true[:-1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p, t, m: (p[:-1], t, m), "shapes differ"),
        (lambda p, t, m: (p, t, np.zeros_like(m)), "mask is empty"),
        (lambda p, t, m: (np.where(np.arange(20)[:, None, None, None] == 3, np.nan, p), t, m), "3"),
        (lambda p, t, m: (p, np.zeros_like(t), m), "same value"),
    ],
)
def test_what_cannot_be_scored_is_refused(recording, spoil, words):
    true, predicted, mask, regions = recording
    with pytest.raises(DataError, match=words):
        score(*spoil(predicted, true, mask), regions)
