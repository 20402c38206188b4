"""PSNR with a short scan of the same person as the reference image."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.scored_set import read_test_set
from eeg2fmri_dist.evaluation.with_scan.reference_image import score_calibrated, usable_lengths
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("store") / "store.h5", n_subjects=10, n_volumes=60)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig(fractions=(0.4, 0.2, 0.4)))
    return read_test_set(store, split)


def oracle(test_set):
    """The subject's true change, around the training subjects' mean image."""

    def predict(recording, change):
        order = change(np.arange(len(recording.true), dtype=float)).astype(int)
        own_change = recording.true - recording.true.mean(axis=0)
        return (test_set.scaling.reference + own_change[order]).astype(np.float32)

    return predict


def test_a_scan_lifts_psnr_to_where_the_eeg_shows(test_set):
    none, short, long = score_calibrated(
        oracle(test_set), fraction(test_set), test_set, [0, 10, 30]
    )
    assert (none.volumes, short.volumes, long.volumes) == (0, 10, 30)
    # Anatomy of others hides what the EEG tells; the person's own shows it.
    assert short.mean_image.mean > none.mean_image.mean + 5
    assert short.gain.low > 0
    assert short.gain.mean > none.gain.mean
    assert long.mean_image.mean > short.mean_image.mean


def test_the_numbers_are_those_of_scikit_image(test_set):
    predict = oracle(test_set)
    (found,) = score_calibrated(predict, fraction(test_set), test_set, [20])
    expected = []
    for recording in test_set.recordings:
        scan = recording.true[:20].mean(axis=0)
        change = recording.true - recording.true.mean(axis=0)
        reference = np.where(test_set.scaling.reference > 0, test_set.scaling.reference, 1)
        truth, image = recording.true[20:], (scan * (1 + change / reference))[20:]
        expected.append(peak_signal_noise_ratio(truth, image, data_range=np.ptp(recording.true)))
    assert found.true_eeg.mean == pytest.approx(np.mean(expected), abs=1e-3)
    assert found.true_eeg.n == len(test_set.recordings)


def test_all_lengths_are_scored_on_the_same_volumes_none_of_them_of_a_scan(test_set):
    # Wrong in the first 30 volumes alone: no length may see it.
    right = oracle(test_set)

    def wrong_at_first(recording, change):
        volumes = right(recording, change).copy()
        volumes[:30] = 0
        return volumes

    lengths = [0, 10, 30]
    for good, bad in zip(
        score_calibrated(right, fraction(test_set), test_set, lengths),
        score_calibrated(wrong_at_first, fraction(test_set), test_set, lengths),
        strict=True,
    ):
        assert good.true_eeg == bad.true_eeg


def test_scans_that_leave_too_little_to_score_are_left_out_with_a_word(test_set, caplog):
    with caplog.at_level("INFO"):
        assert usable_lengths([60, 0, 10, 30, 10], test_set) == [0, 10, 30]
    assert "no calibration scan of 60 volumes: the shortest recording has 60" in caplog.text


def timid(test_set):
    """The subject's true change, of half its size: each voxel changes more than was predicted."""
    predict = oracle(test_set)
    reference = test_set.scaling.reference
    return lambda recording, change: (reference + predict(recording, change)) / 2


def fraction(test_set):
    return test_set.scaling.fraction


def test_voxels_are_scaled_where_validation_subjects_are_better_so(test_set):
    """The model has learnt changes half as large as those of these people."""
    half = fraction(test_set) / 2
    (plain,) = score_calibrated(timid(test_set), half, test_set, [20])
    (chosen,) = score_calibrated(timid(test_set), half, test_set, [20], test_set)
    assert not plain.scaled
    assert chosen.scaled
    assert plain.scale_gain == chosen.scale_gain
    assert chosen.scale_gain.low > 0
    risen = chosen.true_eeg.mean - plain.true_eeg.mean
    assert risen == pytest.approx(chosen.scale_gain.mean, abs=1e-9)


def test_voxels_keep_their_scale_where_that_is_no_better(test_set):
    half = fraction(test_set) / 2
    none, some = score_calibrated(oracle(test_set), half, test_set, [0, 20], test_set)
    assert none.scale_gain is None
    assert not some.scaled
    assert some.scale_gain.high < 0


@pytest.mark.parametrize("validation_gains", [True, False])
def test_test_subjects_have_no_say_in_whether_voxels_are_scaled(test_set, validation_gains):
    """Validation and test subjects are better with the other choice."""
    half = fraction(test_set) / 2
    others = replace(test_set, recordings=tuple(replace(r) for r in test_set.recordings))
    of_validation = {id(recording) for recording in others.recordings}
    small, right = timid(test_set), oracle(test_set)

    def predict(recording, change):
        gains = (id(recording) in of_validation) == validation_gains
        return (small if gains else right)(recording, change)

    (found,) = score_calibrated(predict, half, test_set, [20], others)
    assert found.scaled == validation_gains
    gain = found.scale_gain
    assert gain.high < 0 if validation_gains else gain.low > 0
