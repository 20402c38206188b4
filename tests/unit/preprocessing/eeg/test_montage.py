"""Channels of a recording as a model knows them, and the recordings that are found."""

import re

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.brainvision import open_brainvision
from preprocessing.eeg.features import features_of
from preprocessing.eeg.montage import match_channels, remount
from preprocessing.eeg.new_recording import describe_eeg, find_eeg, model_eeg

WANTED = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "T7", "P8")
SFREQ_HZ, TR_S = 250, 2.0
ONSETS = 125 + 500 * np.arange(8)
SETTINGS = EegConfig(sfreq_hz=250, min_channels=4)


@pytest.fixture(scope="module")
def signal_uv():
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(0, 3, (len(WANTED) + 2, SFREQ_HZ * 18)), axis=1) * 0.2


@pytest.fixture
def recording(write_eeg, signal_uv):
    """Write the signals of `WANTED` (and two more) under given names, in a given order."""

    def write(names=WANTED, order=None, markers=ONSETS, stem="recording"):
        order = range(len(names)) if order is None else order
        rows = signal_uv[list(order)]
        return write_eeg(rows, SFREQ_HZ, names, markers, stem, fmt="binary_float32", overwrite=True)

    return write


def features(path, wanted=WANTED, marker="auto", interpolate=0.25, settings=SETTINGS):
    return model_eeg(path, wanted, TR_S, settings, 1, marker, interpolate)


def test_another_order_and_further_channels_change_nothing(recording):
    plain = features(recording()).features.power
    names = (*WANTED, "ECG", "Oz")
    order = np.random.default_rng(1).permutation(len(names))
    path = recording([names[at] for at in order], order, stem="mixed")
    mixed = features(path)
    np.testing.assert_allclose(mixed.features.power, plain, rtol=1e-5)
    assert mixed.features.channel_names == WANTED
    assert mixed.match.unused == ("Oz",)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(len(WANTED))), start=st.integers(0, 400))
def test_any_channels_of_any_block_are_those_of_the_file(recording, signal_uv, order, start):
    path = recording([WANTED[at] for at in order], order)
    eeg = open_brainvision(path)
    remounted = remount(eeg, match_channels(eeg, WANTED, 0))
    asked = np.array(order[:5])
    block = remounted.read(start, start + 70, asked)
    np.testing.assert_allclose(block, signal_uv[asked, start : start + 70], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "spell",
    [
        str.upper,
        str.lower,
        lambda name: f"EEG {name}-REF",
        lambda name: f"EEG {name.upper()}-LE",
        lambda name: f"{name}-A2",
        lambda name: f"{name}..",
        lambda name: {"T7": "T3", "P8": "T6"}.get(name, name),
    ],
)
def test_another_spelling_gives_the_same_features_and_is_said(recording, caplog, spell):
    plain = features(recording()).features.power
    with caplog.at_level("INFO", "preprocessing"):
        spelled = features(recording([spell(name) for name in WANTED], stem="spelled"))
    np.testing.assert_array_equal(spelled.features.power, plain)
    (name, own), *_ = spelled.match.renamed.items()
    assert own == spell(name)
    assert f"{own} as {name}" in caplog.text
    assert f"{own} as {name}" in describe_eeg(spelled, SETTINGS)["Channels"]


def test_bipolar_channels_are_not_taken_for_unipolar_ones(recording):
    path = recording([f"{name}-Cz" for name in WANTED])
    with pytest.raises(DataError, match=r"12 of the 12 channels .* missing: Fp1, Fp2") as caught:
        features(path)
    assert "Fp1-Cz" in str(caught.value)


def test_a_spelling_that_two_channels_have_is_not_guessed(recording):
    path = recording(("FP1", "fp1", *WANTED[2:], "Fp2"), [0, 12, *range(2, 12), 1])
    with pytest.raises(DataError, match=r"1 of the 12 channels .* missing: Fp1;"):
        features(path, interpolate=0)


def test_missing_channels_are_interpolated_as_mne_does(recording, signal_uv):
    names, order = WANTED[:-2], range(len(WANTED) - 2)
    eeg = open_brainvision(recording(names, order))
    remounted = remount(eeg, match_channels(eeg, WANTED, 0.25))
    block = remounted.read(100, 400, np.arange(len(WANTED)))
    info = mne.create_info(list(WANTED), SFREQ_HZ, "eeg")
    zeroed = signal_uv[: len(WANTED), 100:400].copy()
    zeroed[-2:] = 0
    raw = mne.io.RawArray(zeroed * 1e-6, info, verbose="error")
    raw.set_montage("colin27_1005")
    raw.info["bads"] = list(WANTED[-2:])
    expected = raw.interpolate_bads(verbose="error").get_data() * 1e6
    np.testing.assert_allclose(block[:-2], expected[:-2], rtol=1e-3, atol=0.05)
    # MNE moves the electrodes to the sphere that fits them best; ours are those of bad channels.
    for ours, theirs in zip(block[-2:], expected[-2:], strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert np.isinf(remounted.limits_uv[-2:]).all()


def test_more_missing_channels_than_allowed_are_named(recording):
    path = recording(WANTED[:-4], range(len(WANTED) - 4))
    with pytest.raises(DataError, match=r"4 of the 12 .* missing: O1, O2, T7, P8; the recording"):
        features(path)
    interpolated = features(path, interpolate=0.4)
    assert interpolated.match.interpolated == WANTED[-4:]
    assert "interpolated: O1, O2, T7, P8" in describe_eeg(interpolated, SETTINGS)["Channels"]


def test_a_missing_channel_without_a_place_is_refused(recording):
    wanted = (*WANTED[:-1], "E17")
    with pytest.raises(DataError, match=r"missing \(E17\) and cannot be interpolated"):
        features(recording(), wanted)


def test_eeg_without_markers_is_cut_from_its_first_sample(recording):
    marked, unmarked = features(recording()), features(recording(markers=(), stem="unmarked"))
    assert (marked.marked, unmarked.marked) == (True, False)
    assert marked.start_s == pytest.approx(0.5 + TR_S)  # a dummy volume is dropped
    assert unmarked.start_s == 0
    assert len(marked.features.power) == len(ONSETS) - 1
    assert len(unmarked.features.power) == 9
    assert "no markers" in describe_eeg(unmarked, SETTINGS)["Volumes"]
    # Both are the same signal, cut at other times.
    asked = features(recording(stem="asked"), marker=None)
    np.testing.assert_array_equal(asked.features.power, unmarked.features.power)


def test_a_marker_that_is_asked_for_must_be_there(recording):
    with pytest.raises(DataError, match="no marker matches 'T 1'"):
        features(recording(), marker="T 1")


def test_scanner_artifacts_are_not_looked_for_outside_a_scanner(recording):
    forced = EegConfig.model_validate(
        {**SETTINGS.model_dump(), "pulse_artifact": {"remove": True},
         "gradient_artifact": {"remove": True}}
    )  # fmt: skip
    path = recording(markers=())
    plain = features(path).features.power
    np.testing.assert_array_equal(features(path, settings=forced).features.power, plain)


def test_another_sampling_rate_gives_the_same_power(write_eeg, signal_uv):
    from scipy.signal import resample_poly

    fine = resample_poly(signal_uv[: len(WANTED)], 3, 1, axis=1)
    fast = features(write_eeg(fine, 3 * SFREQ_HZ, WANTED, 3 * ONSETS, "fast"))
    slow = features(write_eeg(signal_uv[: len(WANTED)], SFREQ_HZ, WANTED, ONSETS, "slow"))
    ratio_db = 10 * np.log10(fast.features.power[:, :, 1:-2] / slow.features.power[:, :, 1:-2])
    assert np.median(np.abs(ratio_db)) < 0.05
    assert np.abs(ratio_db).max() < 1


def test_eeg_that_is_sampled_too_slowly_is_refused(write_eeg, signal_uv):
    slow = write_eeg(signal_uv[: len(WANTED), ::4], SFREQ_HZ / 4, WANTED)
    with pytest.raises(DataError, match=r"sampled at 62\.5 Hz, too slow"):
        features(slow)


def bids(folder, *names):
    for name in names:
        sub = re.match(r"(sub-[^_]+)(?:_(ses-[^_]+))?", name)
        place = folder.joinpath(*filter(None, sub.groups()), "eeg")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("")


def test_recordings_of_a_bids_folder_are_found_by_task_and_subject(tmp_path):
    bids(
        tmp_path,
        "sub-01_task-rest_run-1_eeg.vhdr",
        "sub-01_task-rest_run-2_eeg.vhdr",
        "sub-01_task-rest_run-1_eeg.eeg",
        "sub-01_task-oddball_eeg.edf",
        "sub-02_ses-a_task-rest_eeg.set",
        "sub-02_ses-a_task-rest_eeg.json",
    )
    keys = [file.key for file in find_eeg([tmp_path])]
    assert keys == [
        "sub-01_task-oddball",
        "sub-01_task-rest_run-1",
        "sub-01_task-rest_run-2",
        "sub-02_ses-a_task-rest",
    ]
    assert len(find_eeg([tmp_path], task="rest", subjects=["01"])) == 2
    with pytest.raises(DataError, match="no EEG of task tapping; there are tasks oddball, rest"):
        find_eeg([tmp_path], task="tapping")


def test_a_folder_without_eeg_names_the_formats(tmp_path):
    with pytest.raises(DataError, match=r"no BIDS EEG") as caught:
        find_eeg([tmp_path])
    for text in ("BrainVision (.vhdr)", "EDF (.edf)", "BDF (.bdf)", "EEGLAB (.set)", "BIDS"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.fif", r"\.fif: not an EEG format"), ("a.eeg", r"give the \.vhdr file beside it")],
)
def test_other_files_are_refused_with_the_formats_that_are_read(tmp_path, name, message):
    (tmp_path / name).write_text("")
    (file,) = find_eeg([tmp_path / name])
    with pytest.raises(DataError, match=message) as caught:
        file.parts()
    assert "EEGLAB (.set)" in str(caught.value)


def test_two_recordings_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="two recordings would be called sub-x1_task-unknown"):
        find_eeg([tmp_path / "a" / "x_1.edf", tmp_path / "b" / "x-1.edf"])


def test_features_are_those_of_preprocessing(recording):
    path = recording()
    ours = features(path).features.power
    theirs = features_of(open_brainvision(path), None, TR_S, SETTINGS, 1).power
    np.testing.assert_array_equal(ours, theirs)
