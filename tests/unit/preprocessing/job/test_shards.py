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
from preprocessing.job.shard_record import read_shard_record, record_path
from preprocessing.job.shards import examine, keep_record, make_record, shard_of
from preprocessing.job.source_files import source_states
from preprocessing.job.summary import Row
from preprocessing.quality import page_evidence
from preprocessing.recordings import Recording


def configure(folder, **changes):
    values = {"source": {"name": "noddi", "path": folder / "data"}, "output": folder / "store.h5"}
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
def shard(recording, tmp_path):
    """A shard that is up to date."""
    shard = shard_of(recording, configure(tmp_path))
    grid = (2, 2, 2)
    layout = Layout(
        ("Cz",), np.ones(1), "uV^2", np.ones(grid, bool), np.eye(4), {}, {}, {}, "MNI152"
    )
    data = np.ones((3, 1, 1), np.float32), np.ones((3, *grid), np.float32)
    write_shard(shard.path, layout, RecordingEntry("32", "", "", 2.0, 0, 3), *data)
    shard = dataclasses.replace(shard, sources=tuple(source_states(recording)))
    record = make_record(shard, Row("sub-32", "computed"), Store(shard.path).fingerprint)
    write_json(record_path(shard.path), record.to_json())
    return shard


def reason(shard):
    return examine(shard).reason


def touch(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_all_files_of_a_recording_are_watched(recording):
    names = {state.path.name for state in source_states(recording)}
    assert names == {"a.vhdr", "other name.dat", "a.vmrk", "bold.nii.gz"}


def test_an_unchanged_recording_is_up_to_date_without_reading_it(shard, monkeypatch):
    monkeypatch.setattr(source_files, "hash_file", pytest.fail)
    monkeypatch.setattr(shards, "damage", pytest.fail)
    examined = examine(shard)
    assert examined.reason is None
    assert examined.record.to_json() == json.loads(record_path(shard.path).read_text())


def test_a_touched_file_is_hashed_once_and_trusted_again(shard, monkeypatch):
    touch(shard.recording.bold_path)
    hashed = []
    hash_file = source_files.hash_file
    monkeypatch.setattr(
        source_files, "hash_file", lambda path: hashed.append(path) or hash_file(path)
    )
    examined = examine(shard)
    assert examined.reason is None
    assert hashed == [shard.recording.bold_path]
    keep_record(examined)
    assert reason(shard) is None
    assert len(hashed) == 1


@pytest.mark.parametrize("name", ["a.vhdr", "other name.dat", "a.vmrk", "bold.nii.gz"])
def test_a_changed_source_file_is_named(shard, name):
    path = shard.root / name
    path.write_text(path.read_text() + "\n")
    assert reason(shard) == f"{name} has another size"


def test_other_contents_of_the_same_size_are_seen(shard):
    path = shard.root / "other name.dat"
    path.write_text("SAMPLES")
    touch(path)
    assert reason(shard) == "other name.dat has other contents"


def test_a_new_and_a_vanished_file_are_seen(shard):
    (shard.root / "a.eeg").write_text("another binary")
    assert reason(shard) == "a.eeg is new"
    (shard.root / "a.eeg").unlink()
    (shard.root / "a.vmrk").unlink()
    assert reason(shard) == "a.vmrk is no longer there"


def test_a_missing_source_is_a_data_error(shard):
    shard.recording.bold_path.unlink()
    with pytest.raises(DataError, match=r"bold\.nii\.gz"):
        examine(shard)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"eeg__band_hz": [1, 40]}, "eeg.band_hz"),
        ({"bold__transform": "affine"}, "bold.transform"),
        ({"bold__grid": [32, 32, 15]}, "bold.grid"),
        ({"dummy_scans": 3}, "dummy_scans"),
        ({"compression": "gzip"}, "compression"),
        ({"source__tr_s": 2.0}, "source.tr_s"),
    ],
)
def test_a_setting_that_affects_results_is_named(shard, tmp_path, changes, named):
    changed = shard_of(shard.recording, configure(tmp_path, **changes))
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
def test_other_settings_recompute_nothing(shard, tmp_path, changes):
    assert reason(shard_of(shard.recording, configure(tmp_path, **changes))) is None


def test_a_moved_data_set_recomputes_nothing(shard, tmp_path):
    moved = shard.root.rename(tmp_path / "moved")
    recording = dataclasses.replace(
        shard.recording, eeg_path=moved / "a.vhdr", bold_path=moved / "bold.nii.gz"
    )
    assert reason(shard_of(recording, configure(tmp_path, source__path=moved))) is None


def test_another_tr_from_the_sidecar_is_seen(shard):
    recording = dataclasses.replace(shard.recording, tr_s=1.5)
    changed = dataclasses.replace(shard, recording=recording)
    assert "TR of the recording changed from None to 1.5" in reason(changed)


def test_another_version_of_the_method_is_seen(shard, monkeypatch):
    monkeypatch.setattr(shards, "METHOD_VERSION", shards.METHOD_VERSION + 1)
    assert "method version" in reason(shard)


def test_a_damaged_shard_is_seen_and_a_copied_one_is_not(shard):
    content = bytearray(shard.path.read_bytes())
    touch(shard.path)
    assert reason(shard) is None
    offset = bytes(content).index(np.ones(8, np.float32).tobytes())
    content[offset] ^= 1
    shard.path.write_bytes(content)
    touch(shard.path)
    assert "sub-32.h5 is damaged: /bold" in reason(shard)
    shard.path.write_bytes(content[:1000])
    assert "damaged" in reason(shard)
    shard.path.unlink()
    assert reason(shard) == "there is no shard yet"


# As METHOD_VERSION 7 wrote it before records had a type.
EARLIER = """{
 "method": 7, "settings": {"dummy_scans": 5}, "tr_s": null, "slice_times_s": null,
 "sources": [{"path": "EEG1/32/a.vhdr", "size": 44, "mtime_ns": 1, "sha256": "ab"},
             {"path": "fMRI/32/bold.nii.gz", "size": 7, "mtime_ns": 2, "sha256": "cd"}],
 "shard": {"size": 9, "mtime_ns": 3, "fingerprint": "ef"},
 "row": {"recording": "sub-32", "state": "computed", "n_volumes": 3, "dice": 0.9,
         "transform": "syn", "seconds": 1.5, "message": "", "error": "",
         "costs": {"shard": {"seconds": 1.0, "cpu_s": 1.0, "peak_bytes": 5, "host": "a",
                              "pid": 1}}},
 "evidence": 1}"""


def test_a_record_of_an_earlier_version_is_read_and_written_as_it_was(tmp_path):
    (tmp_path / "sub-32.json").write_text(EARLIER)
    record = read_shard_record(tmp_path / "sub-32.json")
    assert (record.row.dice, record.shard.fingerprint, record.evidence) == (0.9, "ef", 1)
    assert source_files.eeg_bytes(record.sources) == 44
    assert record.to_json() == json.loads(EARLIER)
    (tmp_path / "merged.json").write_text('{"parts": {}, "store": {}}')
    assert read_shard_record(tmp_path / "merged.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_lost_record_is_seen(shard, text):
    record_path(shard.path).write_text(text)
    assert "no record" in reason(shard)


def test_the_t1_and_slice_times_count_only_where_they_are_used(shard):
    t1 = shard.root / "t1.nii.gz"
    t1.write_text("anatomy")
    recording = dataclasses.replace(shard.recording, t1_path=t1, slice_times_s=(0.0, 1.0))
    same = dataclasses.replace(shard, recording=recording)
    assert reason(same) is None
    bold = {**shard.settings["bold"], "spatial_normalization": "t1w", "slice_timing": "sidecar"}
    used = dataclasses.replace(same, settings={**shard.settings, "bold": bold})
    assert "bold.spatial_normalization changed from direct_epi to t1w" in reason(
        used
    ) or "slice" in reason(used)
    assert t1 in [source.path for source in examine(used).sources]


def test_evidence_that_a_record_speaks_of_must_be_there(shard):
    record = json.loads(record_path(shard.path).read_text())
    write_json(record_path(shard.path), record | {"evidence": page_evidence.VERSION})
    assert reason(shard) == "the evidence for its quality page is missing"
    page_evidence.evidence_path(shard.path).touch()
    assert reason(shard) is None
    assert examine(shard).record.evidence == page_evidence.VERSION
    write_json(record_path(shard.path), record | {"evidence": page_evidence.VERSION + 1})
    assert reason(shard) == "the evidence for its quality page is missing"
