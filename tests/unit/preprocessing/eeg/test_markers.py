"""Where volumes begin: counts, spacing and coverage against the BOLD run."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg, Marker
from preprocessing.eeg.markers import spacing_quality, volume_onsets

SFREQ_HZ, TR_S, N = 5000.0, 2.16, 20
STEP = 10_800
REGULAR = 700 + STEP * np.arange(N)


def recording(samples=REGULAR, description="Response/R128", n_samples=None, others=()):
    markers = [Marker(int(s), description) for s in samples] + list(others)
    return ContinuousEeg(
        header_path=Path("some/recording.vhdr"),
        data_path=Path("some/recording.eeg"),
        sfreq_hz=SFREQ_HZ,
        n_samples=n_samples or 700 + N * STEP + 100,
        channel_names=(),
        channel_types=(),
        markers=tuple(markers),
        _raw=None,
        _multiplexed_type=None,
    )


def onsets_of(eeg, marker="R128", n_volumes=N, tr_s=TR_S, first_volume=None):
    return volume_onsets(eeg, n_volumes, tr_s, EegConfig(marker=marker, first_volume=first_volume))


@pytest.mark.parametrize(
    ("pattern", "description"),
    [
        ("R128", "Response/R128"),
        (r"S  1$", "Stimulus/S  1"),
        ("^Volume/", "Volume/V  1"),
        ("V +1", "Volume/V  1"),
    ],
)
def test_markers_are_chosen_by_pattern_among_others(pattern, description):
    others = [Marker(5, "Stimulus/S 12"), Marker(3000, "SyncStatus/Sync On"), Marker(9, "Comment/")]
    eeg = recording(description=description, others=others)
    np.testing.assert_array_equal(onsets_of(eeg, pattern), REGULAR)


def test_order_and_repetition_of_markers_do_not_matter():
    np.testing.assert_array_equal(onsets_of(recording([*REGULAR[::-1], *REGULAR[:4]])), REGULAR)


@given(st.lists(st.integers(-5, 5), min_size=N, max_size=N))
def test_jitter_of_a_millisecond_is_let_through_and_kept(jitter):
    jittered = REGULAR + np.array(jitter)
    np.testing.assert_array_equal(onsets_of(recording(jittered)), jittered)


def test_absent_name_lists_what_is_there():
    others = [Marker(10, "Stimulus/S  1"), Marker(20, "Stimulus/S  1"), Marker(30, "Comment/go")]
    with pytest.raises(DataError, match=r"'R128'.*'Stimulus/S  1' x 2, 'Comment/go' x 1") as error:
        onsets_of(recording([], others=others))
    assert "null" in error.value.remedy
    assert "some/recording.vhdr" in str(error.value)


def test_absent_name_in_a_recording_without_markers():
    with pytest.raises(DataError, match="the recording has no markers"):
        onsets_of(recording([]))


def test_too_few_markers_with_the_place_of_the_gap():
    lacking = np.delete(REGULAR, 7)
    match = r"too few volume markers: 19 for 20 .* after volume 6 .*13\.100 s\): 4\.3200 s"
    with pytest.raises(DataError, match=match):
        onsets_of(recording(lacking))


def test_too_few_markers_at_the_end():
    with pytest.raises(DataError, match=r"too few .* 17 for 20 .* spacing is regular"):
        onsets_of(recording(REGULAR[:-3]))


def test_too_many_markers():
    extra = np.sort(np.append(REGULAR, REGULAR[4] + 1000))
    with pytest.raises(DataError, match=r"too many .* 21 for 20 .* after volume 4 .* 0\.2000 s"):
        onsets_of(recording(extra))


def test_irregular_spacing_with_the_right_count():
    moved = REGULAR.copy()
    moved[11] += 400
    with pytest.raises(DataError, match=r"irregular; .* after volume 10 .* 2\.2400 s instead of"):
        onsets_of(recording(moved))


def test_a_wrong_tr_is_told_from_wrong_markers():
    with pytest.raises(DataError, match=r"2\.1600 s apart, but the TR is 2\.0000 s") as error:
        onsets_of(recording(), tr_s=2.0)
    assert "source.tr_s" in error.value.remedy


def test_eeg_shorter_than_the_run():
    eeg = recording(REGULAR[:10], n_samples=700 + 10 * STEP)
    with pytest.raises(DataError, match=r"shorter .* EEG lasts 21\.740 s, the run lasts 43\.200 s"):
        onsets_of(eeg)


def test_eeg_that_ends_within_the_last_volume():
    window = int(SFREQ_HZ)
    np.testing.assert_array_equal(
        onsets_of(recording(n_samples=REGULAR[-1] + window)), REGULAR
    )  # one window is enough
    with pytest.raises(DataError, match=r"shorter .* starts at 0\.140 s and lasts 43\.200 s"):
        onsets_of(recording(n_samples=REGULAR[-1] + window - 1))


def test_without_bold_there_are_as_many_volumes_as_markers():
    np.testing.assert_array_equal(onsets_of(recording(), n_volumes=None), REGULAR)
    cut = recording(n_samples=REGULAR[-1] + 100)
    np.testing.assert_array_equal(onsets_of(cut, n_volumes=None), REGULAR[:-1])
    with pytest.raises(DataError, match="apart, but the TR"):
        onsets_of(recording(), n_volumes=None, tr_s=1.79)


@pytest.mark.parametrize("n_samples", [N * STEP - 5000, N * STEP, N * STEP + STEP - 1])
def test_eeg_cut_to_the_scan_needs_no_markers(n_samples):
    eeg = recording([], n_samples=n_samples)
    np.testing.assert_array_equal(onsets_of(eeg, marker=None), STEP * np.arange(N))


def test_without_markers_a_longer_recording_is_refused():
    eeg = recording([], n_samples=(N + 1) * STEP)
    with pytest.raises(DataError, match=r"cut to the scan.* lasts 45\.360 s .* 43\.200 s"):
        onsets_of(eeg, marker=None)


def test_without_markers_a_shorter_recording_is_refused():
    with pytest.raises(DataError, match="shorter"):
        onsets_of(recording([], n_samples=(N - 1) * STEP), marker=None)


@given(
    n=st.integers(1, 400), tr_s=st.floats(1.0, 4.0), rate=st.sampled_from([250.0, 512.0, 5000.0])
)
def test_without_markers_and_bold_the_duration_gives_the_volumes(n, tr_s, rate):
    eeg = recording([], n_samples=round(n * tr_s * rate))
    object.__setattr__(eeg, "sfreq_hz", rate)
    onsets = onsets_of(eeg, marker=None, n_volumes=None, tr_s=tr_s)
    np.testing.assert_allclose(onsets, np.arange(n) * tr_s * rate, atol=0.5)


def test_quality_numbers():
    moved = REGULAR.copy()
    moved[5] += 5
    numbers = spacing_quality(moved, SFREQ_HZ, TR_S)
    assert numbers["n_volumes"] == N
    assert numbers["marker_spacing_mean_s"] == pytest.approx(2.16)
    assert numbers["marker_spacing_max_deviation_s"] == pytest.approx(0.001)


def test_cut_eeg_begins_with_a_later_volume_and_may_end_before_the_run():
    later = recording(REGULAR[2:15])
    np.testing.assert_array_equal(onsets_of(later, first_volume=2), REGULAR[2:15])
    with pytest.raises(DataError, match=r"too many volume markers: 13 for 12 BOLD volumes"):
        onsets_of(later, n_volumes=14, first_volume=2)
    with pytest.raises(DataError, match="too few"):
        onsets_of(later)
    # The last marker is there, but less than a window of its volume.
    ends = recording(REGULAR[2:15], n_samples=int(REGULAR[14]) + 100)
    np.testing.assert_array_equal(onsets_of(ends, first_volume=2), REGULAR[2:14])


@pytest.mark.parametrize(("n_volumes", "expected"), [(30, 20), (20, 18), (7, 5)])
def test_cut_eeg_without_markers_begins_at_its_first_sample(n_volumes, expected):
    eeg = recording((), n_samples=N * STEP + 100)
    onsets = onsets_of(eeg, None, n_volumes, first_volume=2)
    np.testing.assert_array_equal(onsets, STEP * np.arange(expected))
