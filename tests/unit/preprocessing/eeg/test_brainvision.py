"""Opening BrainVision recordings: samples as MNE reads them, links, damage."""

import os

import mne
import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.brainvision import open_brainvision
from preprocessing.eeg.continuous import Marker

NAMES = ["Fp1", "Cz", "Oz", "ECG"]
ALL = np.arange(len(NAMES))
REAL_RECORDER_OTHERS = {
    "ECG": "ecg",
    "HEOG": "eog",
    "VEOG": "eog",
    "GSR": "misc",
    "Temperature": "misc",
}


@pytest.fixture
def data_uv():
    return np.random.default_rng(0).normal(scale=40, size=(len(NAMES), 2000))


@pytest.fixture
def header(write_eeg, data_uv):
    return write_eeg(data_uv, 500, NAMES, [100, 1100, 1999])


def edit(path, *replacements):
    text = path.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def mne_samples_uv(header):
    return mne.io.read_raw_brainvision(header, verbose="error").get_data() * 1e6


def as_int16(header):
    pass


def as_int32(header):
    binary = header.with_suffix(".eeg")
    np.fromfile(binary, "<i2").astype("<i4").tofile(binary)
    edit(header, ("INT_16", "INT_32"))


def as_vectorized(header):
    binary = header.with_suffix(".eeg")
    np.fromfile(binary, "<i2").reshape(-1, len(NAMES)).T.tofile(binary)
    edit(header, ("DataOrientation=MULTIPLEXED", "DataOrientation=VECTORIZED\nDataPoints=2000"))


def as_text(header):
    binary = header.with_suffix(".eeg")
    samples = np.fromfile(binary, "<i2").reshape(-1, len(NAMES))
    np.savetxt(binary, samples, fmt="%d", header=" ".join(NAMES), comments="")
    edit(
        header,
        ("DataFormat=BINARY", "DataFormat=ASCII"),
        ("[Binary Infos]", "[ASCII Infos]\nDecimalSymbol=.\nSkipLines=1\nSkipColumns=0"),
        ("BinaryFormat=INT_16", ""),
    )


@pytest.mark.parametrize("convert", [as_int16, as_int32, as_vectorized, as_text])
def test_samples_equal_mne_in_every_layout_of_the_format(header, data_uv, convert):
    convert(header)
    eeg = open_brainvision(header)
    got = eeg.read(300, 900, np.array([2, 0]))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, mne_samples_uv(header)[[2, 0], 300:900], atol=1e-4)
    np.testing.assert_allclose(
        got, data_uv[[2, 0], 300:900], atol=0.101
    )  # written in steps of 0.1 uV


def test_each_channel_has_its_own_resolution_and_unit(header, data_uv):
    edit(header, ("Ch2=Cz,,0.1,µV", "Ch2=Cz,,0.002,mV"), ("Ch3=Oz,,0.1,µV", "Ch3=Oz,,0.5,µV"))
    got = open_brainvision(header).read(0, 2000, ALL)
    np.testing.assert_allclose(got, mne_samples_uv(header), atol=1e-3)
    np.testing.assert_allclose(got, data_uv * [[1], [20], [5], [1]], atol=2.02)


def test_rate_names_types_and_markers(header):
    eeg = open_brainvision(header)
    assert (eeg.sfreq_hz, eeg.n_samples, eeg.duration_s) == (500, 2000, 4)
    assert eeg.channel_names == tuple(NAMES)
    assert eeg.markers == tuple(Marker(s, "Response/R128") for s in (100, 1100, 1999))


def test_channels_that_are_not_in_volts_are_no_eeg(header):
    edit(header, ("Ch4=ECG,,0.1,µV", "Ch4=Temperature,,0.1,C"))
    assert open_brainvision(header).channel_types == ("eeg", "eeg", "eeg", "misc")


@pytest.mark.parametrize("suffix", [".eeg", ".dat"])
def test_stale_links_lead_to_the_files_beside_the_header_and_nothing_is_written(
    header, tmp_path, suffix
):
    expected = mne_samples_uv(header)
    for path in list(tmp_path.iterdir()):
        new_suffix = suffix if path.suffix == ".eeg" else path.suffix
        path.rename(path.with_name("renamed" + new_suffix))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    eeg = open_brainvision(tmp_path / "renamed.vhdr")
    np.testing.assert_allclose(eeg.read(0, 2000, ALL), expected, atol=1e-4)
    assert len(eeg.markers) == 3
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}


def test_a_link_that_works_is_followed(header, tmp_path):
    header.with_suffix(".eeg").rename(tmp_path / "elsewhere.eeg")
    edit(header, ("DataFile=recording.eeg", "DataFile=elsewhere.eeg"))
    assert open_brainvision(header).data_path == tmp_path / "elsewhere.eeg"


def test_base_name_placeholder_in_links(header):
    edit(header, ("DataFile=recording.eeg", "DataFile=$b.eeg"))
    assert open_brainvision(header).n_samples == 2000


def test_header_of_an_old_recorder_in_latin_1(header):
    header.write_bytes(header.read_text(encoding="utf-8").replace("UTF-8", "ANSI").encode("cp1252"))
    assert open_brainvision(header).read(0, 10, ALL).std() > 1


def test_without_a_marker_file_there_are_no_markers(header):
    header.with_suffix(".vmrk").unlink()
    assert open_brainvision(header).markers == ()


def test_missing_binary(header):
    header.with_suffix(".eeg").unlink()
    with pytest.raises(DataError, match=r"binary is missing.*recording\.eeg or \.dat"):
        open_brainvision(header)


def test_binary_cut_within_a_sample(header):
    binary = header.with_suffix(".eeg")
    os.truncate(binary, 1500 * len(NAMES) * 2 + 5)
    with pytest.raises(DataError, match=r"truncated.* 1500 samples .*5 of the 8 bytes.* 2000 are"):
        open_brainvision(header)


def test_binary_cut_between_samples_is_found_by_the_markers(header):
    os.truncate(header.with_suffix(".eeg"), 1500 * len(NAMES) * 2)
    with pytest.raises(DataError, match=r"truncated: it holds 1500 samples .* at least 2000"):
        open_brainvision(header)


def test_binary_shorter_than_the_header_announces(write_eeg, data_uv):
    header = write_eeg(data_uv, 500, NAMES)
    edit(header, ("DataOrientation=MULTIPLEXED", "DataOrientation=MULTIPLEXED\nDataPoints=2500"))
    with pytest.raises(DataError, match=r"holds 2000 samples .* at least 2500"):
        open_brainvision(header)


def test_missing_header(tmp_path):
    with pytest.raises(DataError, match="header cannot be read"):
        open_brainvision(tmp_path / "nothing.vhdr")


@pytest.mark.parametrize("name", ["recording.eeg", "notes.txt", "empty.vhdr"])
def test_another_file_than_the_header_is_called_that(header, tmp_path, name):
    (tmp_path / "notes.txt").write_text("EEG of subject 3\n")
    (tmp_path / "empty.vhdr").write_text("")
    with pytest.raises(DataError) as caught:
        open_brainvision(tmp_path / name)
    assert f"{name}: the EEG header cannot be read (it names no DataFile" in str(caught.value)
    assert "give the .vhdr file" in str(caught.value)
    assert "None" not in str(caught.value)


@pytest.mark.parametrize(
    "last", [b"Brain", b"DataFile=", b"DataOrientation=", b"[Channel Infos]", b"Ch3=", b"Ch4="]
)
def test_header_cut_short(header, last):
    content = header.read_bytes()
    header.write_bytes(content[: content.index(last) + len(last)])
    with pytest.raises(DataError, match="header"):
        open_brainvision(header)


def test_header_cut_between_channels(header):
    content = header.read_bytes()
    header.write_bytes(content[: content.index(b"Ch4=")])
    with pytest.raises(DataError, match="header"):
        open_brainvision(header)


def test_header_of_another_format(header):
    header.write_bytes(np.random.default_rng(1).bytes(4000))
    with pytest.raises(DataError, match="header cannot be read"):
        open_brainvision(header)


def test_damaged_marker_file(header):
    edit(header.with_suffix(".vmrk"), ("Response,R128,1101,1,0", "Response"))
    with pytest.raises(DataError, match="marker file cannot be read"):
        open_brainvision(header)


@pytest.mark.realdata
def test_real_recorder_file(realdata):
    header = realdata / "mnebids_tiny" / "sub-01_ses-eeg_task-rest_eeg.vhdr"
    eeg = open_brainvision(header)
    assert (eeg.sfreq_hz, len(eeg.channel_names)) == (5000, 69)
    kinds = dict(zip(eeg.channel_names, eeg.channel_types, strict=True))
    assert {name: kind for name, kind in kinds.items() if kind != "eeg"} == REAL_RECORDER_OTHERS
    volts = [i for i, kind in enumerate(eeg.channel_types) if kind != "misc"]
    expected = mne_samples_uv(header)[volts]
    np.testing.assert_allclose(eeg.read(0, eeg.n_samples, np.array(volts)), expected, atol=1e-3)
