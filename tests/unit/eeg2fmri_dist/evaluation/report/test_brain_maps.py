"""Maps of r: what is gathered, and what a projection keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from eeg2fmri_dist.data.controls import shifted_eeg, true_eeg
from eeg2fmri_dist.evaluation.report.brain_maps import CorrelationMap, correlation_figure, project


def test_the_map_is_the_mean_over_recordings_of_each_voxels_r():
    rng = np.random.default_rng(0)
    mask = np.zeros((5, 4, 3), bool)
    mask[1:4, 1:3, 1:] = True
    recordings = [
        SimpleNamespace(segment=SimpleNamespace(start=start), true=rng.random((30, 5, 4, 3)))
        for start in (0, 30)
    ]
    guesses = {0: rng.random((30, 5, 4, 3)), 30: rng.random((30, 5, 4, 3))}
    gathered = CorrelationMap(mask)
    assert not gathered.volume().any()
    predict = gathered.watching(lambda recording, change: guesses[recording.segment.start])
    for recording in recordings:
        predict(recording, shifted_eeg)  # not looked at
    assert not gathered.volume().any()
    for recording in recordings:
        predict(recording, true_eeg)
        predict(recording, true_eeg)  # once is enough
    time = np.arange(30)

    def straight(series):
        fit = stats.linregress(time, series)
        return series - fit.slope * time

    expected = [
        stats.pearsonr(
            straight(guesses[each.segment.start][:, 2, 1, 1]), straight(each.true[:, 2, 1, 1])
        )[0]
        for each in recordings
    ]
    volume = gathered.volume()
    assert volume[2, 1, 1] == pytest.approx(np.mean(expected))
    assert not volume[~mask].any()


def test_a_projection_keeps_the_farthest_value_and_its_sign():
    volume = np.zeros((3, 4, 5))
    volume[0, 1, 2], volume[2, 1, 2], volume[1, 3, 4] = 0.2, -0.5, 0.3
    seen = project(volume, 0)
    assert seen.shape == (4, 5)
    assert seen[1, 2] == -0.5
    assert seen[3, 4] == 0.3
    assert np.count_nonzero(seen) == 2


def test_the_figure_says_how_much_of_the_brain_follows():
    mask = np.ones((6, 7, 5), bool)
    volume = np.where(np.arange(6)[:, None, None] < 3, 0.4, 0.0) * mask
    drawn = correlation_figure(volume, mask, [3.0, 3.0, 6.0], 4)
    assert "above 0.1 in 50 % of the brain" in drawn.caption
    assert "mean over 4 test recordings" in drawn.caption
    assert drawn.data.startswith(b"\x89PNG")
