"""When a shard counts as up to date, and the reason given when it does not."""

import dataclasses
import json
import os

import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.store import Layout, RecordingEntry, Store, write_shard
from preprocessing.job import shards, source_files
from preprocessing.job.shards import examine, make_record, record_path, shard_place
from preprocessing.job.source_files import source_states
from preprocessing.quality import failure_evidence
from preprocessing.recordings import Recording


def configure(folder, **changes):
    values = {"source": {"kind": "noddi", "path": folder / "data"}, "output": folder / "store.h5"}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section] = {**values.get(section, {}), name: value} if name else value
    return PreprocessConfig.model_validate(values)


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    header = "DataFile=other name.dat\nMarkerFile=$b.vmrk\n"
    for name, text in [
        ("a.vhdr", header),
        ("other name.dat", "samples"),
        ("a.vmrk", "markers"),
        ("bold.nii.gz", "volumes"),
        ("unrelated.eeg", "of another"),
    ]:
        (folder / name).write_text(text)
    return Recording("32", eeg_path=folder / "a.vhdr", bold_path=folder / "bold.nii.gz")


@pytest.fixture
def place(recording, tmp_path):
    """A shard that is up to date."""
    place = shard_place(recording, configure(tmp_path))
    grid = (2, 2, 2)
    layout = Layout(
        ("Cz",), np.ones(1), "uV^2", np.ones(grid, bool), np.eye(4), {}, {}, {}, "MNI152"
    )
    data = np.ones((3, 1, 1), np.float32), np.ones((3, *grid), np.float32)
    write_shard(place.path, layout, RecordingEntry("32", "", "", 2.0, 0, 3), *data)
    states = source_states(recording)
    row = {"recording": "sub-32", "state": "computed"}
    write_json(
        record_path(place.path), make_record(place, states, row, Store(place.path).fingerprint)
    )
    return place


def reason(place):
    return examine(place).reason


def touch(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_all_files_of_a_recording_are_watched(recording):
    names = {state.path.name for state in source_states(recording)}
    assert names == {"a.vhdr", "other name.dat", "a.vmrk", "bold.nii.gz"}


def test_an_unchanged_recording_is_up_to_date_without_reading_it(place, monkeypatch):
    monkeypatch.setattr(source_files, "hash_file", pytest.fail)
    monkeypatch.setattr(shards, "damage", pytest.fail)
    examined = examine(place)
    assert examined.reason is None
    assert examined.record == json.loads(record_path(place.path).read_text())


def test_a_touched_file_is_hashed_once_and_trusted_again(place, monkeypatch):
    touch(place.recording.bold_path)
    hashed = []
    hash_file = source_files.hash_file
    monkeypatch.setattr(
        source_files, "hash_file", lambda path: hashed.append(path) or hash_file(path)
    )
    examined = examine(place)
    assert examined.reason is None
    assert hashed == [place.recording.bold_path]
    write_json(record_path(place.path), examined.record)
    assert reason(place) is None
    assert len(hashed) == 1


@pytest.mark.parametrize("name", ["a.vhdr", "other name.dat", "a.vmrk", "bold.nii.gz"])
def test_a_changed_source_file_is_named(place, name):
    path = place.root / name
    path.write_text(path.read_text() + "\n")
    assert reason(place) == f"{name} has another size"


def test_other_contents_of_the_same_size_are_seen(place):
    path = place.root / "other name.dat"
    path.write_text("SAMPLES")
    touch(path)
    assert reason(place) == "other name.dat has other contents"


def test_a_new_and_a_vanished_file_are_seen(place):
    (place.root / "a.eeg").write_text("another binary")
    assert reason(place) == "a.eeg is new"
    (place.root / "a.eeg").unlink()
    (place.root / "a.vmrk").unlink()
    assert reason(place) == "a.vmrk is no longer there"


def test_a_missing_source_is_a_data_error(place):
    place.recording.bold_path.unlink()
    with pytest.raises(DataError, match=r"bold\.nii\.gz"):
        examine(place)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"eeg__band_hz": [1, 40]}, "eeg.band_hz"),
        ({"bold__transform": "affine"}, "bold.transform"),
        ({"bold__grid": [32, 32, 15]}, "bold.grid"),
        ({"drop_volumes": 3}, "drop_volumes"),
        ({"compression": "gzip"}, "compression"),
        ({"source__tr_s": 2.0}, "source.tr_s"),
    ],
)
def test_a_setting_that_affects_results_is_named(place, tmp_path, changes, named):
    changed = shard_place(place.recording, configure(tmp_path, **changes))
    assert f"{named} changed from" in reason(changed)


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster__workers": 7},
        {"on_error": "continue"},
        {"source__subjects": ["32"]},
        {"atlas__path": "elsewhere"},
    ],
)
def test_other_settings_recompute_nothing(place, tmp_path, changes):
    assert reason(shard_place(place.recording, configure(tmp_path, **changes))) is None


def test_a_moved_data_set_recomputes_nothing(place, tmp_path):
    moved = place.root.rename(tmp_path / "moved")
    recording = dataclasses.replace(
        place.recording, eeg_path=moved / "a.vhdr", bold_path=moved / "bold.nii.gz"
    )
    assert reason(shard_place(recording, configure(tmp_path, source__path=moved))) is None


def test_another_tr_from_the_sidecar_is_seen(place):
    recording = dataclasses.replace(place.recording, tr_s=1.5)
    changed = dataclasses.replace(place, recording=recording)
    assert "TR of the recording changed from None to 1.5" in reason(changed)


def test_another_version_of_the_method_is_seen(place, monkeypatch):
    monkeypatch.setattr(shards, "METHOD_VERSION", shards.METHOD_VERSION + 1)
    assert "method version" in reason(place)


def test_a_damaged_shard_is_seen_and_a_copied_one_is_not(place):
    content = bytearray(place.path.read_bytes())
    touch(place.path)
    assert reason(place) is None
    offset = bytes(content).index(np.ones(8, np.float32).tobytes())
    content[offset] ^= 1
    place.path.write_bytes(content)
    touch(place.path)
    assert "sub-32.h5 is damaged: /bold" in reason(place)
    place.path.write_bytes(content[:1000])
    assert "damaged" in reason(place)
    place.path.unlink()
    assert reason(place) == "there is no shard yet"


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_lost_record_is_seen(place, text):
    record_path(place.path).write_text(text)
    assert "no record" in reason(place)


def test_the_t1_and_slice_times_count_only_where_they_are_used(place):
    t1 = place.root / "t1.nii.gz"
    t1.write_text("anatomy")
    recording = dataclasses.replace(place.recording, t1_path=t1, slice_times_s=(0.0, 1.0))
    same = dataclasses.replace(place, recording=recording)
    assert reason(same) is None
    bold = {**place.settings["bold"], "route": "t1", "slice_timing": "sidecar"}
    used = dataclasses.replace(same, settings={**place.settings, "bold": bold})
    assert "bold.route changed from direct to t1" in reason(used) or "slice" in reason(used)
    assert t1 in [source.path for source in examine(used).sources]


def test_evidence_that_a_record_speaks_of_must_be_there(place):
    record = json.loads(record_path(place.path).read_text())
    write_json(record_path(place.path), record | {"evidence": failure_evidence.VERSION})
    assert reason(place) == "the evidence for its quality page is missing"
    failure_evidence.evidence_path(place.path).touch()
    assert reason(place) is None
    assert examine(place).record["evidence"] == failure_evidence.VERSION
    write_json(record_path(place.path), record | {"evidence": failure_evidence.VERSION + 1})
    assert reason(place) == "the evidence for its quality page is missing"
