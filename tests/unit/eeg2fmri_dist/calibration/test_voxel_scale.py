"""The scale of each voxel of a subject, from a scan, against the scale that was put in."""

import numpy as np
import pytest

from eeg2fmri_dist.calibration.voxel_scale import voxel_scale

GRID = (12, 10, 8)
FRACTION = np.where(np.indices(GRID)[0] > 1, 0.01, 0.0)  # two planes outside the brain


def scan_of(n_volumes, scale, seed=0, r=0.0):
    """Volumes around 500 that change `scale` times as much as in the training subjects."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_volumes, *GRID))
    for at in range(1, n_volumes):
        noise[at] = r * noise[at - 1] + np.sqrt(1 - r**2) * noise[at]
    drift = np.linspace(-1, 1, n_volumes)[:, None, None, None]
    inside = FRACTION > 0
    return inside * 500 * (1 + FRACTION * scale * noise + 0.05 * drift)


def own_scale(spread, seed=1):
    return 1.5 * np.exp(spread * np.random.default_rng(seed).standard_normal(GRID))


def test_a_long_scan_gives_the_scale_of_each_voxel():
    true = own_scale(0.3)
    found = voxel_scale(scan_of(2000, true), FRACTION)
    inside = FRACTION > 0
    np.testing.assert_allclose(found[inside], true[inside], rtol=0.1)
    assert (found[~inside] == 1).all()


@pytest.mark.parametrize("r", [0.0, 0.5])
@pytest.mark.parametrize("n_volumes", [10, 30, 60])
def test_in_a_short_scan_it_is_nearer_to_the_truth_than_the_standard_deviation(n_volumes, r):
    true, inside = own_scale(0.2), FRACTION > 0
    scan = scan_of(n_volumes, true, r=r)
    found = voxel_scale(scan, FRACTION)[inside]
    raw = (scan.std(axis=0, ddof=1) / scan.mean(axis=0).clip(1) / FRACTION.clip(1e-9))[inside]
    errors = [np.square(np.log(each / true[inside])).mean() for each in (found, raw)]
    assert errors[0] < 0.7 * errors[1]
    assert np.corrcoef(np.log(found), np.log(true[inside]))[0, 1] > 0.2


def test_what_is_sampling_error_alone_is_drawn_to_the_mean():
    found = voxel_scale(scan_of(30, 2.0), FRACTION)[FRACTION > 0]
    np.testing.assert_allclose(found, 2.0, rtol=0.15)
    assert np.log(found).std() < 0.05  # 0.13 without


def test_nothing_is_said_where_nothing_is_known():
    assert (voxel_scale(scan_of(4, 2.0), FRACTION) == 1).all()
    still = np.full((20, *GRID), 500.0)
    assert (voxel_scale(still, FRACTION) == 1).all()
