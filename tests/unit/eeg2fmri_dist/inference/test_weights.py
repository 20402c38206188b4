"""Checkpoints made by hand: whole ones are found, broken ones passed over."""

import json

import pytest

from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.inference.weights import (
    STATE,
    WEIGHTS,
    find_damage,
    find_newest,
    record_file,
    resolve_weights,
    training_file,
    write_manifest,
)


@pytest.fixture
def make(tmp_path):
    def make(name, world_size=2, left_out=()):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        names = [WEIGHTS, STATE, *(training_file(rank, world_size) for rank in range(world_size))]
        for file_name in names:
            (folder / file_name).write_text(f"content of {file_name}")
        listed = [file_name for file_name in names if file_name not in left_out]
        write_manifest(folder, {n: record_file(folder / n) for n in listed})
        return folder

    return make


def test_a_whole_checkpoint_has_no_damage(make):
    assert find_damage(make("step-00000001")) is None


def truncate(folder):
    (folder / training_file(1, 2)).write_text("con")


def flip(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes().replace(b"c", b"d", 1))


def garble(folder):
    (folder / "manifest.json").write_text('["a list"]')


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (truncate, "differs from what was written"),
        (flip, "model.safetensors differs"),
        (garble, "manifest cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest cannot be read"),
        (lambda folder: (folder / STATE).unlink(), "state.json is missing"),
    ],
)
def test_damage_is_said_and_an_older_checkpoint_taken(make, break_it, reason, caplog):
    older, newer = make("step-00000001"), make("step-00000002")
    (newer.parent / "latest").write_text(newer.name)
    break_it(newer)
    assert reason in find_damage(newer)
    assert find_newest(newer.parent) == older.name
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("name", [WEIGHTS, STATE, training_file(0, 2), training_file(1, 2)])
def test_a_checkpoint_without_one_of_its_files_is_not_whole(make, name):
    assert find_damage(make("step-00000001", left_out=[name])) is not None


def test_a_pointer_to_nothing_is_passed_over(make):
    folder = make("step-00000003")
    (folder.parent / "latest").write_text("step-00000009")
    assert find_newest(folder.parent) == folder.name


def test_no_checkpoint_is_none(tmp_path):
    assert find_newest(tmp_path / "nothing") is None


def test_weights_of_a_damaged_checkpoint_are_refused(make):
    folder = make("step-00000001")
    (folder.parent / "best").write_text(folder.name)
    assert resolve_weights(folder.parents[1], "best") == folder / WEIGHTS
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[WEIGHTS]["size"] = 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="damaged"):
        resolve_weights(folder.parents[1], "best")


@pytest.mark.parametrize("which", ["step-00000002", "best", "..", ""])
def test_a_checkpoint_that_is_not_there_is_named_beside_those_that_are(make, tmp_path, which):
    make("step-00000001")
    with pytest.raises(CheckpointError, match=f"no checkpoint '{which}'") as caught:
        resolve_weights(tmp_path, which)
    assert "choose from best, latest, step-00000001" in str(caught.value)


def test_folders_that_are_no_runs_are_called_that(tmp_path):
    (tmp_path / "store.h5").write_text("")
    for name in ("nowhere", "store.h5"):
        with pytest.raises(CheckpointError, match=f"{name}: no such run folder"):
            resolve_weights(tmp_path / name, "best")
    with pytest.raises(CheckpointError, match="the folder holds no checkpoint"):
        resolve_weights(tmp_path, "best")
