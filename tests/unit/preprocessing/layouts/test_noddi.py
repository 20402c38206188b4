"""NODDI on disk: names with their exceptions, and what is found or refused."""

from pathlib import Path

import pytest

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.layouts import noddi
from preprocessing.layouts.selection import select_recordings

# As the unpacked archives list them.
PUBLISHED = {
    "32": (
        "EEG1/32/raw/20130410320002.vhdr",
        "EEG1/32/export/20130410320002_Segmentation_bin.vhdr",
        "fMRI/32/3_nw_mepi_rest_with_cross.nii.gz",
        "fMRI/32/2_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
    "35": (
        "EEG1/35/raw/20130424350002.vhdr",
        "EEG1/35/export/20130424350002_Pulse_Artifact_Correction_bin.vhdr",
        "fMRI/35/3_nw_mepi_rest_with_cross.nii.gz",
        "fMRI/35/2_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
    "38": (
        "EEG1/38/raw/20130105380002.vhdr",
        "EEG1/38/export/20130105380002_Pulse_Artifact_Correction_bin.vhdr",
        "fMRI/38/3_nw_mepi_rest_with_cross.nii.gz",
        "fMRI/38/2_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
    "40": (
        "EEG1/40/raw/20130510400002.vhdr",
        "EEG1/40/export/20130510400002_Pulse_Artifact_Correction_bin.vhdr",
        "fMRI/40/05_nw_mepi_rest_with_cross.nii.gz",
        "fMRI/40/04_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
    "50": (
        "EEG2/50/raw/20131003_500002.vhdr",
        "EEG2/50/export/20131003_500002_Pulse_Artifact_Correction_bin.vhdr",
        "fMRI/50/3_nw_mepi_rest_with_cross.nii.gz",
        "fMRI/50/2_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
}
NEWCOMER = (
    "EEG2/61/raw/20150317610002.vhdr",
    "EEG2/61/export/20150317610002_Pulse_Artifact_Correction_bin.vhdr",
    "fMRI/61/3_nw_mepi_rest_with_cross.nii.gz",
    "fMRI/61/2_fl3D_t1_sag_fun_defaced.nii.gz",
)


@pytest.fixture
def root(tmp_path):
    for name in [*(name for names in PUBLISHED.values() for name in names), *NEWCOMER]:
        _touch(tmp_path / name)
    _touch(tmp_path / "EEG1/__MACOSX/32/raw/._20130410320002.vhdr")
    _touch(tmp_path / "EEG1/32/raw/._20130410320002.vhdr")
    return tmp_path


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _source(root: Path, **keys) -> SourceConfig:
    return SourceConfig(name="noddi", path=root, **keys)


@pytest.mark.parametrize("subject", PUBLISHED)
def test_writes_the_published_names(subject, tmp_path):
    written = (
        noddi.eeg_header(tmp_path, subject, "raw"),
        noddi.eeg_header(tmp_path, subject, "export"),
        noddi.bold_run(tmp_path, subject),
        noddi.anatomy(tmp_path, subject),
    )
    assert written == tuple(tmp_path / name for name in PUBLISHED[subject])


def test_knows_sixteen_subjects_and_their_channels():
    absent = {33, 34, 41}
    assert sorted(noddi.FILE_NAMES) == [str(n) for n in (32, *range(35, 51)) if n not in absent]
    assert len(set(noddi.CHANNELS)) == 64
    assert noddi.CHANNELS[31] == "ECG"


@pytest.mark.parametrize(("version", "place"), [("raw", 0), ("export", 1)])
def test_finds_exceptions_and_newcomers(root, version, place):
    found = select_recordings(_source(root, eeg=version, tr_s=2.0)).whole()
    expected = PUBLISHED | {"61": NEWCOMER}
    assert [recording.subject for recording in found] == sorted(expected)
    for recording in found:
        names = expected[recording.subject]
        assert recording.eeg_path == root / names[place]
        assert recording.bold_path == root / names[2]
        assert recording.t1_path == root / names[3]
        assert recording.tr_s == 2.0


@pytest.mark.parametrize("merged", ["EEG", "EEG1"])
def test_finds_archives_merged_into_one_folder(root, merged):
    (root / "EEG").mkdir()
    for part in ("EEG1", "EEG2"):
        if part != merged:
            for subject in list((root / part).iterdir()):
                subject.rename(root / merged / subject.name)
            (root / part).rmdir()
    assert len(select_recordings(_source(root)).whole()) == len(PUBLISHED) + 1


def test_anatomy_may_be_missing(root):
    (root / PUBLISHED["35"][3]).unlink()
    (recording,) = select_recordings(_source(root, subjects=["35"])).whole()
    assert recording.t1_path is None


@pytest.mark.parametrize(("place", "version"), [(0, "raw"), (1, "export"), (2, "raw")])
def test_half_a_pair_is_refused_with_its_path(root, place, version):
    missing = root / PUBLISHED["40"][place]
    missing.unlink()
    with pytest.raises(DataError) as refused:
        select_recordings(_source(root, eeg=version)).whole()
    assert f"sub-40: no {'BOLD run' if place == 2 else 'EEG'}" in refused.value.what
    assert f"{PUBLISHED['40'][place]} is missing" in refused.value.what


def test_a_subject_with_eeg_alone_is_refused(root):
    _touch(root / "EEG2/70/raw/20160101700002.vhdr")
    with pytest.raises(DataError, match="sub-70: no BOLD run: fMRI/70/"):
        select_recordings(_source(root)).whole()
    assert len(select_recordings(_source(root, subjects=["32", "61"])).whole()) == 2


def test_an_absent_subject_is_refused(root):
    with pytest.raises(DataError, match=r"no subject 33; there are 32, 35"):
        select_recordings(_source(root, subjects=["32", "33"])).whole()


def test_two_recordings_of_one_subject_are_refused(root):
    _touch(root / "EEG2/32/raw/20130410320002.vhdr")
    with pytest.raises(DataError, match="more than one raw EEG"):
        select_recordings(_source(root)).whole()


def test_nothing_found(tmp_path):
    assert noddi.find_recordings(_source(tmp_path)) == []
    assert noddi.find_recordings(_source(tmp_path / "nowhere")) == []
    with pytest.raises(DataError, match="no noddi recordings"):
        select_recordings(_source(tmp_path))


def test_only_simulated_recordings_have_a_known_truth(root):
    _touch(root / "truth/sub-35.npz")
    source = SourceConfig(name="noddi", path=root)
    assert {recording.truth for recording in noddi.find_recordings(source)} == {None}
    simulated = source.model_copy(update={"origin": "simulated"})
    truths = {each.subject: each.truth for each in noddi.find_recordings(simulated)}
    assert truths["35"].head_map_path == root / "truth/sub-35.npz"
    assert truths["35"].clean_eeg_path == root / PUBLISHED["35"][1]
    assert truths["32"].head_map_path is None
