"""Numbers of the quality pages: T1 saturation, DVARS, carpet, tSNR, accepted ranges, verdict."""

import types

import numpy as np
import pytest

from preprocessing.bold.non_steady_state import brightness_course, saturated_volumes
from preprocessing.quality import bold_signal
from preprocessing.quality.accepted_ranges import RANGES, Level, judge

GOOD = {
    "dice": 0.95,
    "coverage": 0.97,
    "fd_mean_mm": 0.1,
    "fd_max_mm": 0.6,
    "tsnr_median": 70.0,
    "saturated_volumes": 3,
    "tr_mismatch": "",
    "transform": "affine",
}


def course(saturation, noise, n_volumes=40, tau=1.0):
    rng = np.random.default_rng(3)
    return saturation * np.exp(-np.arange(n_volumes) / tau) + rng.normal(0, noise, n_volumes)


@pytest.mark.parametrize(
    ("saturation", "tau", "expected"),
    [(25.0, 1.0, {3, 4}), (8.0, 0.7, {2, 3}), (0.0, 1.0, {0}), (30.0, 2.0, {6, 7, 8})],
)
def test_saturated_volumes_are_counted(saturation, tau, expected):
    assert saturated_volumes(course(saturation, 0.1, tau=tau)) in expected


def test_a_noisy_start_is_not_taken_for_saturation():
    assert saturated_volumes(course(0.0, 1.0)) == 0
    assert saturated_volumes(np.zeros(1)) == 0


def test_brightness_is_relative_to_the_steady_state():
    rng = np.random.default_rng(0)
    brightness = 1 + 0.2 * np.exp(-np.arange(30))
    volumes = 500 * brightness * np.ones((4, 4, 3, 30)) + rng.normal(0, 1, (4, 4, 3, 30))
    run = types.SimpleNamespace(first_volumes=lambda count: volumes[..., :count])
    found = brightness_course(run, np.ones((4, 4, 3), bool))
    assert len(found) == 30
    np.testing.assert_allclose(found, 100 * (brightness - 1), atol=0.3)


def noise(n_volumes=80, n_voxels=4000, correlation=0.0):
    rng = np.random.default_rng(1)
    series = rng.standard_normal((n_volumes, n_voxels)).astype(np.float32)
    for volume in range(1, n_volumes):
        series[volume] += correlation * series[volume - 1]
    return 600 + 10 * series


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_std_dvars_of_noise_is_one_and_a_jump_stands_out(correlation):
    series = noise(correlation=correlation)
    # Autocorrelation is underestimated in a short run.
    np.testing.assert_allclose(bold_signal.std_dvars(series)[1:].mean(), 1, atol=0.05)
    series[40] += 40
    dvars = bold_signal.std_dvars(series)
    assert dvars[0] == 0
    assert dvars[40] > 2
    assert dvars[41] > 2
    assert (np.delete(dvars, [40, 41])[1:] < 1.2).all()


def test_constant_and_short_series_have_no_dvars():
    assert not bold_signal.std_dvars(np.ones((10, 5))).any()
    assert not bold_signal.std_dvars(noise(3, 5)).any()


def test_tsnr_leaves_the_linear_drift_out():
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    series = noise(200, 27) + np.linspace(-60, 60, 200)[:, None].astype(np.float32)
    ratio = bold_signal.tsnr_map(series, mask)
    assert ratio[mask] == pytest.approx(60, rel=0.2)
    assert not ratio[~mask].any()


def test_tissues_of_the_grid_are_where_the_template_has_them():
    from preprocessing.bold.resampling import grid_mask
    from preprocessing.template.mni import grid_affine

    grid = (64, 64, 30)
    mask = grid_mask(grid)
    tissues = bold_signal.grid_tissues(grid, mask)
    assert (tissues[~mask] == -1).all()
    to_index = np.linalg.inv(grid_affine(grid))
    for mm, tissue in (((-26, -20, 30), "white matter"), ((-16, 20, 0), "gray matter")):
        index = np.rint(to_index[:3, :3] @ mm + to_index[:3, 3]).astype(int)
        assert bold_signal.TISSUES[tissues[tuple(index)]] == tissue
    shares = [(tissues[mask] == number).mean() for number in range(3)]
    assert 0.4 < shares[1] < 0.8
    assert shares[2] > 0.15


def test_a_carpet_shows_every_tissue_and_global_stripes():
    mask = np.ones((10, 10, 10), bool)
    tissues = np.ones(mask.shape, np.int8)
    tissues[:3], tissues[3:5] = 2, 0
    series = noise(50, 1000)
    series[20] += 30
    picture, rows = bold_signal.carpet(series, tissues, mask)
    assert picture.shape == (sum(rows), 50)
    assert rows[0] == pytest.approx(bold_signal.CARPET_ROWS * 0.5, abs=1)
    assert rows[1] == pytest.approx(bold_signal.CARPET_ROWS * 0.3, abs=1)
    assert (picture[:, 20] > 64).mean() > 0.9


def test_good_numbers_are_accepted():
    verdict = judge(GOOD, dummy_scans=5)
    assert verdict.level == Level.ACCEPT
    assert verdict.reasons == ()
    assert {check.range.name for check in verdict.checks} == set(GOOD) - {
        "tr_mismatch",
        "transform",
    }


@pytest.mark.parametrize(
    ("change", "level", "reason"),
    [
        ({"fd_mean_mm": 0.4}, Level.LOOK, "framewise displacement, mean is 0.40 mm"),
        ({"fd_mean_mm": 0.9}, Level.REJECT, "accepted: ≤ 0.25 mm"),
        ({"dice": 0.7}, Level.REJECT, "overlap of brain masks is 0.700, accepted: ≥ 0.900"),
        ({"saturated_volumes": 7}, Level.LOOK, "first volumes brighter than the rest is 7"),
        ({"tr_mismatch": "TR 2 s is used"}, Level.LOOK, "TR 2 s is used"),
        ({"tsnr_median": float("nan")}, Level.LOOK, "temporal signal-to-noise"),
        ({"eeg_peak_to_peak_uv_median": 8000.0}, Level.REJECT, "accepted: 10 µV to 600 µV"),
    ],
)
def test_a_number_outside_its_range_decides_and_is_named(change, level, reason):
    verdict = judge(GOOD | change, dummy_scans=5)
    assert verdict.level == level
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_the_worst_number_decides():
    verdict = judge(GOOD | {"fd_mean_mm": 0.3, "coverage": 0.1}, dummy_scans=5)
    assert verdict.level == Level.REJECT
    assert len(verdict.reasons) == 2
    assert judge({}, dummy_scans=5).level == Level.LOOK


def test_what_is_accepted_is_tolerated():
    for limits in RANGES:
        assert limits.tolerated[0] <= limits.accepted[0] <= limits.accepted[1]
        assert limits.accepted[1] <= limits.tolerated[1]
