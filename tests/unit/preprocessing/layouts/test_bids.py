"""Finding the recordings of a BIDS folder."""

import json

import pytest

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.layouts.selection import select_recordings

EEG, BOLD, T1 = "eeg/{}_eeg.vhdr", "func/{}_bold.nii.gz", "anat/{}_T1w.nii.gz"


@pytest.fixture
def add(tmp_path):
    """Add empty files to a data set, by subject folder and name; the first names the halves."""

    def add(folder, entities, *kinds):
        for kind in kinds:
            path = tmp_path / folder / kind.format(entities)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return add


@pytest.fixture
def find(tmp_path):
    def find(**settings):
        source = {"name": "bids", "path": tmp_path} | settings
        return select_recordings(SourceConfig(**source)).whole()

    return find


@pytest.fixture
def write_sidecar(tmp_path):
    def write_sidecar(name, **content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return write_sidecar


def keys(recordings):
    return [recording.key for recording in recordings]


def test_pairs_with_and_without_session_and_run(add, find, tmp_path):
    add("sub-b", "sub-b_task-rest", EEG, BOLD)
    add("sub-a/ses-2", "sub-a_ses-2_task-rest_run-02", EEG, BOLD)
    add("sub-a/ses-2", "sub-a_ses-2_task-rest_run-10", EEG, BOLD)
    add("sub-a/ses-1", "sub-a_ses-1_task-rest_run-01", EEG, BOLD)
    recordings = find()
    assert keys(recordings) == [
        "sub-a_ses-1_task-rest_run-01",
        "sub-a_ses-2_task-rest_run-02",
        "sub-a_ses-2_task-rest_run-10",
        "sub-b_task-rest",
    ]
    first = recordings[0]
    stem = "sub-a_ses-1_task-rest_run-01"
    assert first.eeg_path == tmp_path / f"sub-a/ses-1/eeg/{stem}_eeg.vhdr"
    assert first.bold_path == tmp_path / f"sub-a/ses-1/func/{stem}_bold.nii.gz"
    assert first.t1_path is None
    assert first.tr_s is None


def test_only_the_task_and_no_derivatives(add, find):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    add("sub-01", "sub-01_task-rest2", BOLD)
    add("sub-01", "sub-01_task-motor", EEG, BOLD)
    add("sub-01", "sub-01_task-rest", "func/{}_sbref.nii.gz", "func/{}_bold.nii.gz.md5")
    add("derivatives/tool/sub-01", "sub-01_task-rest_desc-clean", BOLD)
    assert keys(find(tasks="rest")) == ["sub-01_task-rest"]
    assert find(tasks=["motor"])[0].bold_path.name == "sub-01_task-motor_bold.nii.gz"


def test_entities_that_only_one_half_has_do_not_part_them(add, find):
    add("sub-01", "sub-01_task-rest_dir-AP_run-1", BOLD)
    add("sub-01", "sub-01_task-rest_run-01", EEG)
    assert keys(find()) == ["sub-01_task-rest_run-1"]


def test_uncompressed_bold_is_found(add, find):
    add("sub-01", "sub-01_task-rest", EEG, "func/{}_bold.nii")
    assert find()[0].bold_path.name == "sub-01_task-rest_bold.nii"


def test_anatomy_of_the_session_else_of_the_subject(add, find):
    for session in ("1", "2"):
        add(f"sub-01/ses-{session}", f"sub-01_ses-{session}_task-rest", EEG, BOLD)
    add("sub-01/ses-2", "sub-01_ses-2", T1)
    add("sub-02", "sub-02_task-rest", EEG, BOLD)
    add("sub-02", "sub-02", T1)
    first, second, third = find()
    assert first.t1_path == second.t1_path
    assert second.t1_path.name == "sub-01_ses-2_T1w.nii.gz"
    assert third.t1_path.name == "sub-02_T1w.nii.gz"
    add("sub-01/ses-1", "sub-01_ses-1", T1)
    assert find()[0].t1_path.name == "sub-01_ses-1_T1w.nii.gz"


def test_subjects_are_chosen(add, find):
    for subject in ("01", "02", "03"):
        add(f"sub-{subject}", f"sub-{subject}_task-rest", EEG, BOLD)
    add("sub-04", "sub-04_task-rest", EEG)  # its missing half does not matter to the others
    assert keys(find(subjects=["03", "01"])) == ["sub-01_task-rest", "sub-03_task-rest"]


def test_unknown_subject_is_named_with_those_present(add, find):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    with pytest.raises(DataError, match=r"no subject 07; there are 01"):
        find(subjects=["01", "07"])


def test_chosen_subject_without_the_task_is_named(add, find):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    add("sub-02", "sub-02_task-motor", EEG, BOLD)
    assert keys(find(tasks="rest")) == ["sub-01_task-rest"]
    with pytest.raises(
        DataError, match=r"leave no recording of subject 02, which has sub-02_task-motor"
    ):
        find(subjects=["01", "02"], tasks="rest")


def test_unknown_task_is_reported_with_those_present(add, find):
    add("sub-01", "sub-01_task-motor", EEG, BOLD)
    add("sub-01", "sub-01_task-faces", BOLD)
    with pytest.raises(DataError, match=r"no task rest; there are faces, motor"):
        find(tasks="rest")


def test_folder_without_subjects(find):
    with pytest.raises(DataError, match="no bids recordings found"):
        find()


def test_every_missing_half_is_named(add, find, tmp_path):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    add("sub-02/ses-x", "sub-02_ses-x_task-rest_run-01", BOLD)
    add("sub-03", "sub-03_task-rest", EEG)
    with pytest.raises(DataError) as error:
        find()
    text = str(error.value)
    assert str(tmp_path) in text
    assert "no EEG: sub-02/ses-x/eeg/sub-02_ses-x_task-rest_run-01_eeg.vhdr is missing" in text
    assert "no BOLD run: sub-03/func/sub-03_task-rest_bold.nii.gz is missing" in text
    assert "sub-01" not in text


def test_two_candidates_for_one_recording_are_refused(add, find):
    add("sub-01", "sub-01_task-rest", EEG)
    add("sub-01", "sub-01_task-rest_echo-1", BOLD)
    add("sub-01", "sub-01_task-rest_echo-2", BOLD)
    with pytest.raises(DataError, match=r"echo-1_bold\.nii\.gz and .*echo-2_bold\.nii\.gz"):
        find()


def test_link_without_content_says_how_to_fetch_it(add, find, tmp_path):
    add("sub-01", "sub-01_task-rest", EEG)
    bold = tmp_path / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    bold.parent.mkdir()
    bold.symlink_to("../../.git/annex/objects/absent")
    with pytest.raises(DataError, match=r"sub-01_task-rest_bold\.nii\.gz is not here.*datalad get"):
        find()


def test_repetition_time_is_inherited_and_the_nearest_sidecar_wins(add, find, write_sidecar):
    add("sub-01/ses-1", "sub-01_ses-1_task-rest_run-1", EEG, BOLD)
    write_sidecar("task-motor_bold.json", RepetitionTime=9)
    write_sidecar("sub-01/ses-1/func/sub-01_ses-1_task-rest_run-2_bold.json", RepetitionTime=9)
    assert find()[0].tr_s is None
    steps = [
        ("bold.json", 1),
        ("task-rest_bold.json", 2),
        ("sub-01/sub-01_task-rest_bold.json", 2.16),
        ("sub-01/ses-1/sub-01_ses-1_bold.json", 3),
        ("sub-01/ses-1/func/sub-01_ses-1_task-rest_run-1_bold.json", 3.5),
    ]
    for name, tr_s in steps:
        write_sidecar(name, RepetitionTime=tr_s)
        assert find()[0].tr_s == tr_s


def test_sidecar_without_repetition_time_leaves_it_to_the_next(add, find, write_sidecar):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    write_sidecar("sub-01/func/sub-01_task-rest_bold.json", EchoTime=0.03)
    write_sidecar("task-rest_bold.json", RepetitionTime=2.1)
    assert find()[0].tr_s == 2.1


def test_configured_repetition_time_wins(add, find, write_sidecar):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    write_sidecar("task-rest_bold.json", RepetitionTime="unknown")
    assert find(tr_s=1.5)[0].tr_s == 1.5


@pytest.mark.parametrize(
    "content", ['{"RepetitionTime": "2.0"}', '{"RepetitionTime": 0}', "[]", "{"]
)
def test_damaged_sidecar_is_named(add, find, tmp_path, content):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    (tmp_path / "task-rest_bold.json").write_text(content)
    with pytest.raises(DataError) as error:
        find()
    assert str(tmp_path / "task-rest_bold.json") in str(error.value)


@pytest.mark.parametrize("label", ["$(touch x)", "<script>", "a b", "`id`", "x;y", "", "a\nb", '"'])
def test_labels_that_are_no_labels_are_refused(add, find, label):
    add(f"sub-{label}", f"sub-{label}_task-rest", EEG, BOLD)
    with pytest.raises(DataError, match="cannot be a subject, session, task or run"):
        find()


def test_a_subject_that_leads_elsewhere_is_not_there(add, find):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    with pytest.raises(DataError, match=r"no subject \.\./sub-01"):
        find(subjects=["../sub-01"])
    with pytest.raises(DataError, match=r"no task \.\./rest; there are rest"):
        find(tasks="../rest")


def test_slice_times_are_inherited_and_turned_where_slices_run_downwards(add, find, write_sidecar):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    assert find()[0].slice_times_s is None
    write_sidecar("task-rest_bold.json", RepetitionTime=2, SliceTiming=[0.0, 1.0, 0.5])
    assert find()[0].slice_times_s == (0.0, 1.0, 0.5)
    nearer = "sub-01/func/sub-01_task-rest_bold.json"
    write_sidecar(nearer, SliceEncodingDirection="k-")
    assert find()[0].slice_times_s == (0.5, 1.0, 0.0)
    for unusable in (
        {"SliceEncodingDirection": "j"},
        {"SliceTiming": "often"},
        {"SliceTiming": []},
    ):
        write_sidecar(nearer, **unusable)
        assert find()[0].slice_times_s is None


def test_a_damaged_sidecar_is_not_needed_where_the_repetition_time_is_configured(
    add, find, tmp_path
):
    add("sub-01", "sub-01_task-rest", EEG, BOLD)
    (tmp_path / "task-rest_bold.json").write_text("{")
    assert find(tr_s=2.0)[0].tr_s == 2.0
