"""Which recordings of a source are selected, excluded and refused, and what is said of them."""

import pytest

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.layouts import selection
from preprocessing.layouts.selection import select_recordings
from preprocessing.recordings import Recording

RUNS = [
    *(f"sub-{s}/ses-{v}/{{}}/sub-{s}_ses-{v}_task-rest_run-01" for s in ("01", "02") for v in "12"),
    "sub-01/ses-1/{}/sub-01_ses-1_task-motor_run-01",
    "sub-01/ses-1/{}/sub-01_ses-1_task-rest_run-02",
]


@pytest.fixture
def folder(tmp_path):
    """Five recordings of two subjects, two sessions, two tasks and two runs."""
    for stem in RUNS:
        for datatype, ending in (("eeg", "_eeg.vhdr"), ("func", "_bold.nii.gz")):
            path = tmp_path / (stem.format(datatype) + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


@pytest.fixture
def select(folder):
    def select(**settings):
        return select_recordings(SourceConfig(name="bids", path=folder, **settings))

    return select


def keys(items):
    return [getattr(item, "recording", item).key for item in items]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"sessions": ["2"]}, ["sub-01_ses-2_task-rest_run-01", "sub-02_ses-2_task-rest_run-01"]),
        ({"runs": [2]}, ["sub-01_ses-1_task-rest_run-02"]),
        ({"tasks": "motor"}, ["sub-01_ses-1_task-motor_run-01"]),
        (
            {"subjects": [1], "sessions": [1], "tasks": ["rest"]},
            ["sub-01_ses-1_task-rest_run-01", "sub-01_ses-1_task-rest_run-02"],
        ),
    ],
)
def test_filters_select_by_each_entity_and_numbers_by_value(select, filters, expected):
    found = select(**filters)
    assert keys(found.whole()) == expected
    assert len(found.unselected) == len(RUNS) - len(expected)
    assert all("source." in item.reason for item in found.unselected)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"sessions": ["3"]}, r"no session 3; there are 1, 2\n.*source\.sessions"),
        ({"runs": ["1", "7", "8"]}, "no run 7, 8; there are 01, 02"),
        ({"subjects": ["03"]}, "no subject 03; there are 01, 02"),
        (
            {"subjects": ["02"], "tasks": ["motor"]},
            "leave no recording of subject 02, which has sub-02_ses-1_task-rest_run-01, sub-02",
        ),
    ],
)
def test_a_filter_that_matches_nothing_names_what_there_is(select, filters, message):
    with pytest.raises(DataError, match=message):
        select(**filters)


def test_labels_that_the_data_do_not_have_are_named(tmp_path):
    for place in ("eeg/sub-1_task-rest_eeg.set", "func/sub-1_task-rest_bold.nii"):
        path = tmp_path / "sub-1" / place
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(DataError, match="no session 1; the data have no session labels"):
        select_recordings(SourceConfig(name="bids", path=tmp_path, sessions=["1"]))


def test_exclusions_carry_their_reasons(select):
    found = select(
        exclude=[
            {"subject": "02", "session": 2, "reason": "fell asleep"},
            {"session": "2", "reason": "cap was loose"},
            {"task": "motor", "reason": "not of interest"},
        ]
    )
    assert {item.recording.key: item.reason for item in found.excluded} == {
        "sub-01_ses-2_task-rest_run-01": "cap was loose",
        "sub-02_ses-2_task-rest_run-01": "fell asleep; cap was loose",
        "sub-01_ses-1_task-motor_run-01": "not of interest",
    }
    assert keys(found.whole()) == [
        "sub-01_ses-1_task-rest_run-01",
        "sub-01_ses-1_task-rest_run-02",
        "sub-02_ses-1_task-rest_run-01",
    ]


def test_labels_that_would_steer_a_terminal_are_shown_without_doing_so(select, folder):
    for datatype, ending in (("eeg", "eeg.set"), ("func", "bold.nii")):
        path = folder / f"sub-\x1b[2J/{datatype}/sub-\x1b[2J_task-rest_{ending}"
        path.parent.mkdir(parents=True)
        path.touch()
    (refused,) = select().refused
    assert refused.recording.key == "sub-?[2J_task-rest"
    assert "cannot be a subject" in refused.reason
    assert refused.reason.isprintable()


def test_many_recordings_and_labels_are_selected_at_once(tmp_path, monkeypatch):
    many = [
        Recording(f"{number:05}", tmp_path / "layout.py", tmp_path / "layout.py")
        for number in range(4_000)
    ]
    monkeypatch.setitem(selection._LAYOUTS, "custom", lambda source: many)
    source = SourceConfig(
        name="custom",
        path=tmp_path,
        layout=tmp_path / "layout.py",
        subjects=list(range(0, 4_000, 2)),
    )
    (tmp_path / "layout.py").touch()
    assert len(select_recordings(source).whole()) == 2_000


def test_an_exclusion_that_fits_nothing_is_an_error(select):
    with pytest.raises(DataError, match=r"entry 2 \('typing error'\) fits none.*there are sub-01"):
        select(
            exclude=[
                {"subject": "02", "reason": "moved"},
                {"subject": "02", "run": 3, "reason": "typing error"},
            ]
        )


def test_an_exclusion_of_everything_is_an_error(select):
    with pytest.raises(DataError, match="all 2 recordings are excluded"):
        select(subjects=["02"], exclude=[{"subject": "02", "reason": "moved"}])


def test_half_recordings_are_refused_unless_they_are_excluded(select, folder):
    (folder / "sub-02/ses-2/func/sub-02_ses-2_task-rest_run-01_bold.nii.gz").unlink()
    found = select()
    assert keys(found.refused) == ["sub-02_ses-2_task-rest_run-01"]
    assert len(found.selected) == 5
    with pytest.raises(DataError, match=r"no BOLD run: sub-02/ses-2/func/.*is missing"):
        found.whole()
    select(exclude=[{"subject": 2, "session": 2, "reason": "scan was stopped"}]).whole()
    select(sessions=1).whole()


@pytest.mark.parametrize(
    ("exclusion", "message"),
    [
        ({"subject": "01"}, r"source\.exclude\.0\.reason.*required"),
        ({"reason": "bad"}, "name a subject, session, task or run"),
        ({"subject": "01", "reason": ""}, "at least 1 character"),
        ({"subjct": "01", "reason": "bad"}, "did you mean 'source.exclude.0.subject'"),
    ],
)
def test_exclusions_that_say_too_little_are_refused(tmp_path, exclusion, message):
    import yaml

    from eeg2fmri_dist.config import load_config
    from eeg2fmri_dist.config.preprocess import PreprocessConfig

    path = tmp_path / "preprocess.yaml"
    source = {"name": "bids", "path": "data", "exclude": [exclusion]}
    path.write_text(yaml.safe_dump({"source": source, "output": "store.h5"}))
    with pytest.raises(ConfigError, match=message):
        load_config(PreprocessConfig, path)
