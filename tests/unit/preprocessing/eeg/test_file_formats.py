"""EEG of other formats than BrainVision, and the tables that BIDS keeps beside it."""

from pathlib import Path

import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import EegConfig, SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.channels import ecg_channel, scalp_channels
from preprocessing.eeg.continuous import Marker
from preprocessing.eeg.features import eeg_features
from preprocessing.eeg.file_formats import files_beside, open_eeg
from preprocessing.job.source_files import source_states
from preprocessing.layouts.selection import select_recordings
from preprocessing.recordings import Recording
from tests.helpers import eeg_formats

NAMES = ["Fz", "Cz", "Pz", "Oz", "C3", "C4", "ECG"]
SFREQ_HZ, N_SAMPLES, TR_S = 250, 250 * 24, 2.0
ONSETS = 300 + 500 * np.arange(10)


@pytest.fixture(scope="module")
def signal_uv():
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(0, 3, (len(NAMES), N_SAMPLES)), axis=1) * 0.2


def write_set(path, signal_uv, names=NAMES, **options):
    return eeg_formats.write_set(path, signal_uv, names, SFREQ_HZ, ONSETS, **options)


def write_edf(path, signal_uv, names=NAMES):
    return eeg_formats.write_edf(path, signal_uv, names, SFREQ_HZ, ONSETS)


def write_set_with_fdt(path, signal_uv):
    return write_set(path, signal_uv, with_fdt=True)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.set", write_set), ("b.set", write_set_with_fdt), ("c.edf", write_edf)],
)
def test_same_recording_in_any_format(tmp_path, signal_uv, write_eeg, name, write):
    other = open_eeg(write(tmp_path / name, signal_uv))
    known = open_eeg(write_eeg(signal_uv, SFREQ_HZ, NAMES, ONSETS))
    assert other.sfreq_hz == known.sfreq_hz
    assert other.n_samples == known.n_samples
    assert other.channel_names == known.channel_names
    assert other.channel_types == known.channel_types == ("eeg",) * 6 + ("ecg",)
    assert [marker.sample for marker in other.markers] == list(ONSETS)
    assert {marker.description for marker in other.markers} == {"R128"}
    np.testing.assert_allclose(
        other.read(100, 400, np.array([0, 6])), known.read(100, 400, np.array([0, 6])), atol=0.11
    )
    config = EegConfig(min_channels=4)
    powers = [
        eeg_features(Recording("1", eeg.header_path, Path("x")), 10, TR_S, config, 2).power
        for eeg in (other, known)
    ]
    np.testing.assert_allclose(powers[0], powers[1], rtol=0.05, atol=0.01)


def test_types_of_channels_tsv_decide(tmp_path, signal_uv):
    path = write_set(tmp_path / "sub-1_task-rest_eeg.set", signal_uv)
    rows = zip(NAMES, ["EEG"] * 4 + ["VEOG", "ECG", "MISC"], strict=True)
    table = "name\ttype\tunits\n" + "".join(f"{name}\t{kind}\tuV\n" for name, kind in rows)
    (tmp_path / "sub-1_task-rest_channels.tsv").write_text(table)
    eeg = open_eeg(path)
    assert eeg.channel_types == ("eeg",) * 4 + ("eog", "ecg", "misc")
    assert ecg_channel(eeg) == 5
    np.testing.assert_array_equal(scalp_channels(eeg, EegConfig(min_channels=4)), [0, 1, 2, 3])


def test_events_tsv_gives_markers_where_the_file_has_none(tmp_path, signal_uv, write_eeg):
    header = write_eeg(signal_uv, SFREQ_HZ, NAMES, stem="sub-1_task-rest_eeg")
    rows = "".join(f"{onset / SFREQ_HZ}\t0\tn/a\tR128\n" for onset in ONSETS)
    events = tmp_path / "sub-1_task-rest_events.tsv"
    events.write_text("onset\tduration\ttrial_type\tvalue\n" + rows)
    assert open_eeg(header).markers == tuple(Marker(int(onset), "R128") for onset in ONSETS)
    marked = write_eeg(
        signal_uv, SFREQ_HZ, NAMES, [7, 507], stem="sub-1_task-rest_eeg", overwrite=True
    )
    assert [marker.sample for marker in open_eeg(marked).markers] == [7, 507]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time\tvalue\n1\tR128\n", "no column onset; it has time, value"),
        ("onset\tvalue\nsoon\tR128\n", "onset holds something else than seconds"),
    ],
)
def test_events_tsv_that_cannot_be_read(tmp_path, signal_uv, write_eeg, text, problem):
    header = write_eeg(signal_uv, SFREQ_HZ, NAMES, stem="sub-1_task-rest_eeg")
    (tmp_path / "sub-1_task-rest_events.tsv").write_text(text)
    with pytest.raises(DataError, match=problem):
        open_eeg(header)


@pytest.mark.parametrize("name", ["broken.set", "broken.edf"])
def test_broken_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"not EEG at all")
    with pytest.raises(DataError, match="the EEG cannot be read"):
        open_eeg(tmp_path / name)


def test_other_formats(tmp_path):
    with pytest.raises(DataError, match="not an EEG format that is read") as error:
        open_eeg(tmp_path / "recording.cnt")
    assert ".set" in error.value.remedy


def test_bids_finds_them_and_watches_what_lies_beside(tmp_path, signal_uv):
    folder = tmp_path / "sub-1"
    for place in ("eeg", "func"):
        (folder / place).mkdir(parents=True)
    path = write_set_with_fdt(folder / "eeg" / "sub-1_task-rest_eeg.set", signal_uv)
    (folder / "eeg" / "sub-1_task-rest_events.tsv").write_text("onset\n1\n")
    (folder / "func" / "sub-1_task-rest_bold.nii.gz").touch()
    (recording,) = select_recordings(SourceConfig(name="bids", path=tmp_path)).whole()
    assert recording.eeg_path == path
    names = {state.path.name for state in source_states(recording)}
    assert names == {
        "sub-1_task-rest_eeg.set",
        "sub-1_task-rest_eeg.fdt",
        "sub-1_task-rest_events.tsv",
        "sub-1_task-rest_bold.nii.gz",
    }


def test_volume_markers_of_events_tsv_serve_a_file_that_has_others(tmp_path, signal_uv):
    path = write_set(tmp_path / "sub-1_task-rest_eeg.set", signal_uv)
    (tmp_path / "sub-1_task-rest_events.tsv").write_text("onset\tvalue\n1\tT\n3\tT\n")
    assert len(open_eeg(path, "R128").markers) == len(ONSETS)
    found = open_eeg(path, "^T$").markers
    assert [marker.sample for marker in found if marker.description == "T"] == [250, 750]


def test_tables_are_inherited_as_published_data_have_them(tmp_path, signal_uv):
    folder = tmp_path / "sub-1" / "eeg"
    folder.mkdir(parents=True)
    path = write_set(folder / "sub-1_task-rest_eeg.set", signal_uv)
    # Spaces in place of tabs, quotes that do not match, tabs at the ends of lines.
    rows = "".join(f"'{name}’   EEG   microV\n" for name in NAMES[:-2])
    table = tmp_path / "task-rest_channels.tsv"
    table.write_text(f"name   type   units\n{rows}'C4’   EOG   microV\n")
    (tmp_path / "task-rest_events.tsv").write_text(
        "onset\tduration\ttrial_type\tfile\n2\t20\tRest\ta.png\n22\t20\tGo\tb.png\t\n\n\t\n"
    )
    (tmp_path / "task-other_channels.tsv").write_text("name\ttype\nFz\tMISC\n")
    eeg = open_eeg(path, "Rest|Go")
    assert eeg.channel_types == ("eeg",) * 5 + ("eog", "ecg")
    assert [m.sample for m in eeg.markers if m.description in ("Rest", "Go")] == [500, 5500]
    beside = {file.name for file in files_beside(path)}
    assert beside == {"task-rest_channels.tsv", "task-rest_events.tsv"}
    own = folder / "sub-1_task-rest_channels.tsv"
    own.write_text("name\ttype\nFz\tMISC\n")
    assert open_eeg(path).channel_types[0] == "misc"


def test_tables_of_other_recordings_in_one_folder_do_not_apply(tmp_path, signal_uv):
    path = write_set(tmp_path / "eeg_2.set", signal_uv)
    (tmp_path / "eeg_1_channels.tsv").write_text("name\ttype\nFz\tMISC\n")
    assert open_eeg(path).channel_types[0] == "eeg"
