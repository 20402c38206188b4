"""PSNR with a short scan of the same subject as the reference image."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.scored_set import read_scored_set
from eeg2fmri_dist.evaluation.with_scan.reference_image import score_calibrated, usable_lengths
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store


@pytest.fixture(scope="module")
def scored_set(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("store") / "store.h5", n_subjects=10, n_volumes=60)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig(fractions=(0.4, 0.2, 0.4)))
    return read_scored_set(store, split)


def oracle(scored_set):
    """The subject's true change, around the training subjects' mean image."""

    def predict(recording, change):
        order = change(np.arange(len(recording.true), dtype=float)).astype(int)
        own_change = recording.true - recording.true.mean(axis=0)
        return (scored_set.scaling.reference + own_change[order]).astype(np.float32)

    return predict


def test_a_scan_lifts_psnr_to_where_the_eeg_shows(scored_set):
    none, short, long = score_calibrated(
        oracle(scored_set), fraction(scored_set), scored_set, [0, 10, 30]
    )
    assert (none.volumes, short.volumes, long.volumes) == (0, 10, 30)
    # Anatomy of others hides what the EEG tells; the subject's own shows it.
    assert short.mean_image.mean > none.mean_image.mean + 5
    assert short.gain.low > 0
    assert short.gain.mean > none.gain.mean
    assert long.mean_image.mean > short.mean_image.mean


def test_the_numbers_are_those_of_scikit_image(scored_set):
    predict = oracle(scored_set)
    (found,) = score_calibrated(predict, fraction(scored_set), scored_set, [20])
    expected = []
    for recording in scored_set.recordings:
        scan = recording.true[:20].mean(axis=0)
        change = recording.true - recording.true.mean(axis=0)
        reference = np.where(scored_set.scaling.reference > 0, scored_set.scaling.reference, 1)
        truth, image = recording.true[20:], (scan * (1 + change / reference))[20:]
        expected.append(peak_signal_noise_ratio(truth, image, data_range=np.ptp(recording.true)))
    assert found.true_eeg.mean == pytest.approx(np.mean(expected), abs=1e-3)
    assert found.true_eeg.n == len(scored_set.recordings)


def test_all_lengths_are_scored_on_the_same_volumes_none_of_them_of_a_scan(scored_set):
    # Wrong in the first 30 volumes alone: no length may see it.
    right = oracle(scored_set)

    def wrong_at_first(recording, change):
        volumes = right(recording, change).copy()
        volumes[:30] = 0
        return volumes

    lengths = [0, 10, 30]
    for good, bad in zip(
        score_calibrated(right, fraction(scored_set), scored_set, lengths),
        score_calibrated(wrong_at_first, fraction(scored_set), scored_set, lengths),
        strict=True,
    ):
        assert good.true_eeg == bad.true_eeg


def test_scans_that_leave_too_little_to_score_are_left_out_with_a_word(scored_set, caplog):
    with caplog.at_level("INFO"):
        assert usable_lengths([60, 0, 10, 30, 10], scored_set) == [0, 10, 30]
    assert "no calibration scan of 60 volumes: the shortest recording has 60" in caplog.text


def timid(scored_set):
    """The subject's true change, of half its size: each voxel changes more than was predicted."""
    predict = oracle(scored_set)
    reference = scored_set.scaling.reference
    return lambda recording, change: (reference + predict(recording, change)) / 2


def fraction(scored_set):
    return scored_set.scaling.fraction


def test_voxels_are_scaled_where_validation_subjects_are_better_so(scored_set):
    """The model has learned changes half as large as those of these subjects."""
    half = fraction(scored_set) / 2
    (plain,) = score_calibrated(timid(scored_set), half, scored_set, [20])
    (chosen,) = score_calibrated(timid(scored_set), half, scored_set, [20], scored_set)
    assert not plain.scaled
    assert chosen.scaled
    assert plain.scale_gain == chosen.scale_gain
    assert chosen.scale_gain.low > 0
    risen = chosen.true_eeg.mean - plain.true_eeg.mean
    assert risen == pytest.approx(chosen.scale_gain.mean, abs=1e-9)


def test_voxels_keep_their_scale_where_that_is_no_better(scored_set):
    half = fraction(scored_set) / 2
    none, some = score_calibrated(oracle(scored_set), half, scored_set, [0, 20], scored_set)
    assert none.scale_gain is None
    assert not some.scaled
    assert some.scale_gain.high < 0


@pytest.mark.parametrize("validation_gains", [True, False])
def test_test_subjects_have_no_say_in_whether_voxels_are_scaled(scored_set, validation_gains):
    """Validation and test subjects are better with the other choice."""
    half = fraction(scored_set) / 2
    others = replace(scored_set, recordings=tuple(replace(r) for r in scored_set.recordings))
    of_validation = {id(recording) for recording in others.recordings}
    small, right = timid(scored_set), oracle(scored_set)

    def predict(recording, change):
        gains = (id(recording) in of_validation) == validation_gains
        return (small if gains else right)(recording, change)

    (found,) = score_calibrated(predict, half, scored_set, [20], others)
    assert found.scaled == validation_gains
    gain = found.scale_gain
    assert gain.high < 0 if validation_gains else gain.low > 0
