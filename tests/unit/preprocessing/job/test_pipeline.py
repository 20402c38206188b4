"""The pipeline: what is computed again and what is not, failures, dead workers, Ctrl-C.

Most tests put stand-ins for the costly steps; those at the end run the real ones on simulated
recordings of a few volumes.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import types

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.config.simulate import SimulateConfig
from eeg2fmri_dist.errors import ConfigError, DataError, LaunchError, StoreError
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.store import Atlas, Layout, LeftOut, RecordingEntry, Store, verify, write_shard
from eeg2fmri_dist.store.__main__ import main as store_main
from preprocessing.bold import bold_run
from preprocessing.cluster.client import WorkerDiedError
from preprocessing.job import inventory, merging, pipeline, planning, preconditions, source_files
from preprocessing.job.shard_record import record_path
from preprocessing.job.shards import make_record
from preprocessing.job.source_files import hash_file
from preprocessing.job.summary import Row
from preprocessing.layouts import noddi
from tests.helpers.repository import ROOT

GRID = (2, 2, 2)
SUBJECTS = ("32", "35", "43")


def configure(folder, **changes):
    values = {
        "source": {"name": "noddi", "path": folder / "data"},
        "output": folder / "out" / "store.h5",
        "cluster": {"workers": 2, "memory_gib": 2.0},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section] = {**values.get(section, {}), name: value} if name else value
    return PreprocessConfig.model_validate(values)


class Outcome:
    """What stands for a future: the step has run already."""

    def __init__(self, value=None, error=None):
        self.value, self.error = value, error

    def result(self):
        return self.value


class InlineCluster:
    """Runs each step at once, in this process; `kills` says how often a step's worker dies."""

    place = None

    def __init__(self, kills=()):
        self.started, self.steps, self.kills = 0, [], dict(kills)

    def start(self, n_steps):
        self.started += 1

    def submit(self, step, *arguments, name, rank):
        self.steps.append(name)
        earlier = [argument for argument in arguments if isinstance(argument, Outcome)]
        if error := next((outcome.error for outcome in earlier if outcome.error), None):
            return Outcome(error=error)
        if self.kills.get(name, 0) > 0:
            self.kills[name] -= 1
            return Outcome(error=WorkerDiedError(f"{name}: the worker process died"))
        try:
            return Outcome(step(*(getattr(argument, "value", argument) for argument in arguments)))
        except Exception as error:
            return Outcome(error=error)

    def completed(self, futures):
        yield from list(futures)

    def error(self, future):
        return future.error


class Steps:
    """Stand-ins for the steps of a recording, which may be told to fail."""

    def __init__(self):
        self.failures = {}

    def register(self, recording, config):
        self._fail(recording, "registration")

    def eeg(self, recording, config):
        self._fail(recording, "EEG features")

    def make_shard(self, shard, config, registration, features):
        self._fail(shard.recording, "shard")
        layout = Layout(
            ("Cz",), np.ones(1), "uV^2", np.ones(GRID, bool), np.eye(4), {}, {}, {}, "MNI152"
        )
        subject = shard.recording.subject
        eeg = np.full((3, 1, 1), config.eeg.band_hz[1], np.float32)
        bold = np.full((3, *GRID), int(subject), np.float32)
        write_shard(shard.path, layout, RecordingEntry(subject, "", "", 2.0, 0, 3), eeg, bold)
        cost = {"seconds": 3600.0, "cpu_s": 3600.0, "peak_bytes": 2**30, "host": "n1", "pid": 1}
        costs = dict.fromkeys(("registration", "EEG features", "shard"), cost)
        row = Row(shard.key, "computed", 3, 0.95, "affine", 1.0, "", "", costs)
        record = make_record(shard, row, Store(shard.path).fingerprint)
        write_json(record_path(shard.path), record.to_json())
        return row

    def _fail(self, recording, step):
        error = self.failures.get((recording.subject, step))
        if error is not None:
            raise error


@pytest.fixture
def steps(monkeypatch):
    steps = Steps()
    monkeypatch.setattr(pipeline, "steps", steps)
    monkeypatch.setattr(merging, "load_atlases", lambda *_: {})
    return steps


@pytest.fixture
def run(monkeypatch):
    """Run the pipeline on a cluster of this process; returns summary and cluster."""

    def run(config, **options):
        cluster = InlineCluster(**options)
        run.cluster = cluster
        monkeypatch.setattr(pipeline, "open_cluster", lambda *_: contextlib.nullcontext(cluster))
        return pipeline.preprocess(config), cluster

    return run


@pytest.fixture
def data(tmp_path, steps):
    """Files of three recordings in NODDI's layout; only the BOLD headers matter to anybody."""
    for subject in SUBJECTS:
        header = noddi.eeg_header(tmp_path / "data", subject, "raw")
        header.parent.mkdir(parents=True)
        header.write_text(f"of subject {subject}")
        write_bold(tmp_path, subject)
    return tmp_path


def write_bold(folder, subject, n_volumes=8, tr_s=2.16):
    path = noddi.bold_run(folder / "data", subject)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((2, 2, 2, n_volumes), np.int16), np.eye(4))
    image.header.set_zooms((1, 1, 1, tr_s))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def states(summary):
    return {row.recording: row.state for row in summary.rows}


def mtimes(config):
    folder = config.output.with_suffix(".shards")
    return {path.name: path.stat().st_mtime_ns for path in [*folder.glob("*.h5"), config.output]}


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[bytes(content).index(np.full(8, 43, np.float32).tobytes())] ^= 1
    path.write_bytes(content)


def test_all_recordings_end_in_one_store(data, run):
    config = configure(data)
    summary, cluster = run(config)
    assert states(summary) == dict.fromkeys(["sub-32", "sub-35", "sub-43"], "computed")
    assert summary.merged
    assert len(cluster.steps) == 9
    store = Store(config.output)
    assert [entry.key for entry in store.recordings] == ["sub-32", "sub-35", "sub-43"]
    assert store.bold(0, 9).mean(axis=(1, 2, 3)).tolist() == [32] * 3 + [35] * 3 + [43] * 3
    assert verify(config.output) == []


def test_a_second_run_does_nothing(data, run, caplog):
    config = configure(data)
    run(config)
    before = mtimes(config)
    caplog.set_level("INFO")
    summary, cluster = run(config)
    assert set(states(summary).values()) == {"up to date"}
    assert not summary.merged
    assert cluster.started == 0
    assert mtimes(config) == before
    assert "store.h5 is up to date (3 recordings)" in caplog.text
    assert [row.dice for row in summary.rows] == [0.95] * 3


def test_a_damaged_shard_is_computed_alone_and_the_reason_logged(data, run, caplog):
    config = configure(data)
    run(config)
    before, fingerprint = mtimes(config), Store(config.output).fingerprint
    flip_a_bit(config.output.with_suffix(".shards") / "sub-43.h5")
    caplog.set_level("INFO")
    summary, cluster = run(config)
    assert cluster.steps == [f"{s} of sub-43" for s in ("registration", "EEG features", "shard")]
    assert states(summary) == {
        "sub-32": "up to date",
        "sub-35": "up to date",
        "sub-43": "computed",
    }
    assert "sub-43.h5 is damaged: /bold, sample 0" in caplog.text
    after = mtimes(config)
    assert {name for name in before if after[name] != before[name]} == {"sub-43.h5"}
    assert Store(config.output).fingerprint == fingerprint


def test_a_changed_setting_computes_all_again(data, run, caplog):
    run(configure(data))
    caplog.set_level("INFO")
    summary, _ = run(configure(data, eeg__band_hz=[1, 40]))
    assert set(states(summary).values()) == {"computed"}
    assert summary.merged
    assert "eeg.band_hz changed from [1.0, 30.0] to [1.0, 40.0]: sub-32, sub-35" in caplog.text
    assert Store(configure(data).output).eeg(0, 1)[0, 0, 0] == 40


def test_new_recordings_are_appended_without_computing_the_old(data, run):
    run(configure(data, source__subjects=["32", "43"]))
    summary, cluster = run(configure(data))
    assert len(cluster.steps) == 3
    assert summary.merged
    assert [entry.key for entry in Store(summary.store).recordings] == [
        "sub-32",
        "sub-35",
        "sub-43",
    ]


def test_a_source_that_goes_once_it_is_read_stops_nobody(data, run, steps):
    def shard_and_lose_the_source(*arguments):
        row = Steps.make_shard(steps, *arguments)
        recording = arguments[0].recording
        if recording.subject == "35":
            recording.eeg_path.unlink()
        return row

    steps.make_shard = shard_and_lose_the_source
    summary, _ = run(configure(data))
    assert set(states(summary).values()) == {"computed"}
    assert len(Store(summary.store).recordings) == 3


def test_a_shard_that_rotted_unseen_is_found_by_the_merge(data, run):
    config = configure(data)
    run(config)
    fingerprint = Store(config.output).fingerprint
    shard = config.output.with_suffix(".shards") / "sub-43.h5"
    times = shard.stat().st_atime_ns, shard.stat().st_mtime_ns
    flip_a_bit(shard)
    os.utime(shard, ns=times)
    config.output.unlink()
    with pytest.raises(StoreError, match=r"sub-43\.h5"):
        run(config)
    summary, _ = run(config)
    assert states(summary)["sub-43"] == "computed"
    assert Store(config.output).fingerprint == fingerprint


@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "another"])
def test_a_damaged_store_is_merged_again_from_its_shards(data, run, damage):
    config = configure(data)
    run(config)
    fingerprint = Store(config.output).fingerprint
    if damage == "missing":
        config.output.unlink()
    elif damage == "flipped":
        flip_a_bit(config.output)
    elif damage == "truncated":
        config.output.write_bytes(config.output.read_bytes()[:-100])
    else:
        shutil.copy(config.output.with_suffix(".shards") / "sub-32.h5", config.output)
    summary, cluster = run(config)
    assert cluster.started == 0
    assert summary.merged
    assert Store(config.output).fingerprint == fingerprint
    assert verify(config.output) == []


def test_stop_keeps_the_shards_of_the_others_and_makes_no_store(data, run, steps):
    config = configure(data)
    steps.failures["35", "EEG features"] = DataError("no volume markers", where="35.vmrk")
    with pytest.raises(DataError) as caught:
        run(config)
    assert "1 of 3 recordings failed" in str(caught.value)
    assert "sub-35: EEG features failed: 35.vmrk: no volume markers" in str(caught.value)
    assert "on_error=continue" in str(caught.value)
    assert not config.output.exists()
    steps.failures.clear()
    summary, cluster = run(config)
    assert {step.split()[-1] for step in cluster.steps} == {"sub-35"}
    assert len(Store(summary.store).recordings) == 3


def test_continue_makes_a_store_of_the_others(data, run, steps):
    config = configure(data, on_error="continue")
    steps.failures["35", "shard"] = DataError("truncated")
    summary, _ = run(config)
    assert states(summary) == {"sub-32": "computed", "sub-35": "failed", "sub-43": "computed"}
    assert [entry.key for entry in Store(config.output).recordings] == ["sub-32", "sub-43"]
    steps.failures.clear()
    summary, _ = run(config)
    assert len(Store(config.output).recordings) == 3


def test_continue_tells_the_batch_system_what_failed(data, run, steps):
    steps.failures["35", "shard"] = DataError("truncated")
    summary, _ = run(configure(data, on_error="continue"))
    with pytest.raises(DataError) as caught:
        summary.check_complete()
    assert caught.value.exit_code == 3
    assert "1 of 3 recordings failed; the store has the others" in str(caught.value)
    assert "sub-35: shard failed: truncated" in str(caught.value)
    steps.failures.clear()
    run(configure(data, on_error="continue"))[0].check_complete()


def test_continue_without_any_recording_left_is_an_error(data, run, steps):
    for subject in SUBJECTS:
        steps.failures[subject, "registration"] = DataError("no brain found")
    with pytest.raises(DataError, match="3 of 3 recordings failed"):
        run(configure(data, on_error="continue"))


def test_an_unexpected_error_names_recording_and_step(data, run, steps, caplog):
    caplog.set_level("DEBUG", logger="preprocessing")
    steps.failures["43", "registration"] = ZeroDivisionError("division by zero")
    with pytest.raises(DataError) as caught:
        run(configure(data))
    assert "sub-43: registration failed: ZeroDivisionError: division by zero" in str(caught.value)
    assert "Traceback" in caplog.text


def test_a_full_disk_ends_the_run_with_its_own_exit_code(data, run, steps):
    steps.failures["35", "shard"] = LaunchError("no space left on the disk")
    with pytest.raises(LaunchError, match="no space left"):
        run(configure(data, on_error="continue"))


def test_too_little_space_is_said_before_anything_is_computed(data, run, monkeypatch):
    free = types.SimpleNamespace(free=100_000)
    monkeypatch.setattr(preconditions.shutil, "disk_usage", lambda _: free)
    with pytest.raises(LaunchError, match="no space left on the disk") as caught:
        run(configure(data))
    assert "100,000 are free" in str(caught.value)
    assert run.cluster.steps == []


def test_steps_that_died_with_another_are_tried_alone(data, run):
    config = configure(data, on_error="continue")
    kills = {
        "EEG features of sub-32": 1,
        "registration of sub-35": 99,
        "registration of sub-43": 1,
    }
    summary, _ = run(config, kills=kills.items())
    assert states(summary) == {"sub-32": "computed", "sub-35": "failed", "sub-43": "computed"}


def test_a_missing_source_file_fails_that_recording_alone(data, run, monkeypatch):
    run(configure(data))
    real = inventory.examine

    def examine(shard):
        if shard.key == "sub-35":
            raise DataError("cannot be read (Permission denied)", where="35.eeg")
        return real(shard)

    monkeypatch.setattr(inventory, "examine", examine)
    text = "\n".join(planning.plan(configure(data)))
    assert re.search(r"sub-35 +refused .* 35\.eeg: cannot be read", text)
    summary, _ = run(configure(data, on_error="continue"))
    assert states(summary)["sub-35"] == "failed"
    assert len(Store(summary.store).recordings) == 2


def test_other_region_labels_are_merged_without_computing(data, run, monkeypatch):
    config = configure(data)
    run(config)
    labels = Atlas(np.ones(GRID, np.int16), ("Background", "Brain"), "test")
    monkeypatch.setattr(merging, "load_atlases", lambda *_: {"brain": labels})
    monkeypatch.setattr(merging, "atlas_identity", lambda _: "another")
    summary, cluster = run(config)
    assert summary.merged
    assert cluster.started == 0
    assert list(Store(config.output).layout.atlases) == ["brain"]
    assert not run(config)[0].merged


def test_a_wrong_atlas_path_is_refused_before_anything_is_computed(data, run):
    with pytest.raises(ConfigError, match="HarvardOxford"):
        run(configure(data, atlas__path=data))
    assert run.cluster.steps == []


def test_two_runs_at_once_are_refused_and_leftovers_removed(data, run):
    config = configure(data)
    folder = config.output.with_suffix(".shards")
    folder.mkdir(parents=True)
    leftovers = [folder / ".sub-32.h5.123.part", config.output.parent / ".store.h5.9.part"]
    for leftover in leftovers:
        leftover.touch()
    with (
        pipeline._sole_writer(config.output),
        pytest.raises(LaunchError, match="another process is preprocessing"),
    ):
        run(config)
    assert not any(leftover.exists() for leftover in leftovers)
    run(config)


def test_plan_says_what_would_be_done_and_changes_nothing(data, run):
    config = configure(data)
    text = "\n".join(planning.plan(config))
    assert "3 noddi recordings" in text
    assert "3 of 3 shards to compute" in text
    assert "store.h5: to be merged" in text
    assert not config.output.parent.exists()
    run(config)
    flip_a_bit(config.output.with_suffix(".shards") / "sub-43.h5")
    before = mtimes(config)
    text = "\n".join(planning.plan(config))
    assert re.search(r"sub-32 +selected .* 8 +2\.16 +up to date", text)
    assert re.search(r"sub-43 .* 8 +2\.16 +sub-43\.h5 is damaged", text)
    assert "1 of 3 shards to compute" in text
    assert mtimes(config) == before


@pytest.mark.parametrize("act", ["plan", "run"])
def test_each_header_is_read_once_however_much_is_planned_with_it(data, run, monkeypatch, act):
    """Some hundred of them lie on a network file system, and planning runs on a login node."""
    opened, real = [], bold_run.open_bold

    def open_bold(path, *options):
        opened.append(path)
        return real(path, *options)

    monkeypatch.setattr(bold_run, "open_bold", open_bold)
    config = configure(data)
    planning.plan(config) if act == "plan" else run(config)
    assert sorted(opened) == sorted(noddi.bold_run(data / "data", each) for each in SUBJECTS)


def test_a_damaged_header_stops_no_other_recording(data, run, steps):
    noddi.bold_run(data / "data", "35").write_bytes(b"no image")
    text = "\n".join(planning.plan(configure(data)))
    assert re.search(r"sub-35 +refused +\? +\? +\? +\? +not a NIfTI file", text)
    steps.failures["35", "registration"] = DataError("not a NIfTI file")
    summary, _ = run(configure(data, on_error="continue"))
    assert states(summary) == {"sub-32": "computed", "sub-35": "failed", "sub-43": "computed"}


def test_a_touched_file_is_hashed_in_one_run_alone(data, run, monkeypatch):
    config = configure(data)
    run(config)
    eeg = noddi.eeg_header(data / "data", "35", "raw")
    os.utime(eeg, ns=(0, 10**18))
    hashed = []
    monkeypatch.setattr(
        source_files, "hash_file", lambda path: hashed.append(path) or hash_file(path)
    )
    for _ in range(2):
        summary, _ = run(config)
        assert set(states(summary).values()) == {"up to date"}
    assert hashed == [eeg]


def test_plan_names_recordings_that_cannot_be_used(data):
    write_bold(data, "35", n_volumes=5)
    text = "\n".join(planning.plan(configure(data)))
    assert re.search(r"sub-35 +refused .* 5 volumes, of which the first 5", text)
    assert "1 of 3 recordings cannot be used: sub-35 (on_error: stop)" in text
    assert "2 of 3 shards to compute" in text
    for subject in SUBJECTS:
        write_bold(data, subject, n_volumes=4)
    with pytest.raises(DataError, match="none of these recordings can be used") as caught:
        planning.plan(configure(data))
    assert "sub-43" in str(caught.value)


def excluding(data, reason):
    exclude = [{"subject": 35, "reason": reason}]
    return configure(data, source__exclude=exclude, source__subjects=["32", "35"])


def test_exclusions_reach_table_store_index_and_summary(data, run, caplog, capsys):
    config = excluding(data, "fell <asleep>")
    text = "\n".join(planning.plan(config))
    assert re.search(r"sub-32 +selected ", text)
    assert re.search(r"sub-35 +excluded .* fell <asleep>", text)
    assert re.search(r"sub-43 +not selected .* not one of source\.subjects", text)
    summary, _ = run(config)
    assert states(summary) == {"sub-32": "computed", "sub-35": "excluded"}
    summary.check_complete()
    assert "1 excluded" in summary.total()
    assert any("fell <asleep>" in line for line in summary.lines())
    assert Store(config.output).left_out == (LeftOut("sub-35", "excluded", "fell <asleep>"),)
    index = config.output.with_suffix(".quality") / "index.html"
    assert "fell &lt;asleep&gt;" in index.read_text()
    assert store_main(["info", str(config.output)]) == 0
    assert "left out: sub-35: excluded: fell <asleep>" in capsys.readouterr().out
    fingerprint = Store(config.output).fingerprint
    config = excluding(data, "snored")
    assert "left out.sub-35 changed from excluded: fell <asleep> to " in "\n".join(
        planning.plan(config)
    )
    summary, cluster = run(config)
    assert cluster.steps == []
    assert Store(config.output).left_out[0].reason == "snored"
    assert Store(config.output).fingerprint == fingerprint
    assert verify(config.output) == []


def test_incomplete_recordings_stop_or_are_left_out(data, run):
    missing = noddi.bold_run(data / "data", "35")
    missing.unlink()
    text = "\n".join(planning.plan(configure(data)))
    assert re.search(r"sub-35 +refused .* no BOLD run: fMRI/35/", text)
    with pytest.raises(DataError, match="sub-35: no BOLD run"):
        run(configure(data))
    assert run.cluster.steps == []
    config = configure(data, on_error="continue")
    summary, _ = run(config)
    assert states(summary) == {"sub-32": "computed", "sub-35": "failed", "sub-43": "computed"}
    with pytest.raises(DataError, match="1 of 3 recordings failed"):
        summary.check_complete()
    (left_out,) = Store(config.output).left_out
    assert (left_out.recording, left_out.state) == ("sub-35", "failed")
    assert "no BOLD run" in left_out.reason


@pytest.mark.parametrize("act", ["plan", "run"])
def test_a_window_longer_than_the_tr_is_found_before_anything_is_computed(data, run, act):
    config = configure(data, eeg__window_s=2.5)
    with pytest.raises(
        ConfigError, match=r"2\.5 s is longer than the TR of 2\.16 s of sub-32, sub-35, sub-43"
    ):
        planning.plan(config) if act == "plan" else run(config)
    assert not config.output.exists()
    assert act == "plan" or run.cluster.steps == []


@pytest.mark.parametrize("act", ["plan", "run"])
def test_several_repetition_times_are_found_before_anything_is_computed(data, run, act):
    write_bold(data, "35", tr_s=2.0)
    config = configure(data)
    with pytest.raises(DataError, match=r"(?s)2 s: sub-35\n.*2\.16 s: sub-32, sub-43"):
        planning.plan(config) if act == "plan" else run(config)
    assert act == "plan" or run.cluster.steps == []
    run(configure(data, source__exclude=[{"subject": 35, "reason": "another TR"}]))


def test_plan_predicts_from_what_recordings_have_cost(data, run):
    config = configure(data)
    assert "by simulated recordings on another machine" in "\n".join(planning.plan(config))
    run(config)
    flip_a_bit(config.output.with_suffix(".shards") / "sub-43.h5")
    text = "\n".join(planning.plan(config))
    # Each stand-in took an hour of processor time; one of three is to be computed again.
    assert "time: about 3.00 core-hours, by 3 recordings computed before" in text


def test_plan_counts_the_quality_pages(data, run):
    """By what pages have cost, an hour here."""
    config = configure(data, quality=True)
    run(configure(data, quality=False))
    shards = config.output.with_suffix(".shards")
    write_json(shards / "sub-32.page.json", {"cpu_s": 3600.0})
    flip_a_bit(shards / "sub-43.h5")
    assert "time: about 4.00 core-hours" in "\n".join(planning.plan(config))


def test_outputs_that_cannot_be_written_are_refused_at_once(data, run):
    folder, file = data / "folder", data / "file"
    folder.mkdir()
    file.touch()
    for output in (folder, file / "store.h5"):
        for act in (planning.plan, lambda config: run(config)):
            with pytest.raises(ConfigError, match="output"):
                act(configure(data, output=output))
    assert not list(folder.iterdir())


# Real steps on simulated recordings.


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two simulated recordings and the store made of them by two workers."""
    from preprocessing.simulation import simulate

    folder = tmp_path_factory.mktemp("pipeline")
    simulate(
        SimulateConfig(
            output=folder / "data",
            subjects=["32", "43"],
            n_volumes=12,
            tr_s=2.0,
            sfreq_hz=500,
            workers=2,
        )
    )
    summary = pipeline.preprocess(configure(folder, bold__transform="affine"))
    assert set(states(summary).values()) == {"computed"}
    return folder


@pytest.fixture
def copied(real, tmp_path):
    """A copy of data, shards and store that a test may damage; files keep their times."""
    shutil.copytree(real, tmp_path / "copy")
    return tmp_path / "copy"


def write_config(folder):
    path = folder / "preprocess.yaml"
    path.write_text(
        f"source: {{name: noddi, path: {folder}/data}}\noutput: {folder}/out/store.h5\n"
        "bold: {transform: affine}\ncluster: {workers: 2, memory_gib: 2.0}\n"
    )
    return path


@pytest.mark.slow
def test_real_store_holds_what_the_parts_compute(real):
    from preprocessing.bold.resampling import grid_mask
    from preprocessing.eeg.features import eeg_features
    from preprocessing.layouts.selection import select_recordings
    from preprocessing.template.mni import grid_affine

    config = configure(real, bold__transform="affine")
    store = Store(config.output)
    assert verify(store.path) == []
    assert store.grid == config.bold.grid
    assert store.n_samples == 14
    second = select_recordings(config.source).selected[1]
    features = eeg_features(second, 12, 2.0, config.eeg, 5)
    np.testing.assert_array_equal(store.eeg(7, 14), features.power)
    assert store.layout.channel_names == features.channel_names
    assert store.layout.eeg_unit == features.unit
    np.testing.assert_array_equal(store.layout.mask, grid_mask(config.bold.grid))
    np.testing.assert_array_equal(store.layout.affine, grid_affine(config.bold.grid))
    volumes = store.bold(0, 14)
    assert (volumes[:, ~store.layout.mask] == 0).all()
    assert (volumes[:, store.layout.mask] > 0).mean() > 0.95
    assert store.layout.atlases
    for atlas in store.layout.atlases.values():
        assert atlas.labels.shape == store.grid
        assert atlas.labels.max() < len(atlas.names)
    for entry in store.recordings:
        assert entry.tr_s == 2.0
        assert entry.quality["transform"] == "affine"
        assert entry.quality["dice"] > 0.9
        assert len(entry.sources) == 4
        for source in entry.sources:
            assert (real / "data" / source.path).stat().st_size == source.size


def test_real_pages_lie_beside_the_store_and_are_drawn_once(copied):
    config = configure(copied, bold__transform="affine")
    folder = config.output.with_suffix(".quality")
    pages = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(pages) == {"index.html", "sub-32.html", "sub-43.html"}
    assert 'href="sub-32.html"' in (folder / "index.html").read_text()
    confounds = Store(config.output).confounds
    assert confounds.values.shape == (14, len(confounds.names))
    # The simulated heads lie still.
    moved_mm = confounds.values[:, confounds.names.index("framewise_displacement_mm")]
    assert moved_mm.max() < 0.3
    pipeline.preprocess(config)
    assert (folder / "sub-32.html").stat().st_mtime_ns == pages["sub-32.html"]
    shutil.rmtree(folder)
    pipeline.preprocess(config.model_copy(update={"quality": False}))
    assert not folder.exists()


@pytest.mark.slow
def test_real_rerun_and_a_truncated_run(copied, caplog):
    config = configure(copied, bold__transform="affine", on_error="continue")
    before = mtimes(config)
    assert set(states(pipeline.preprocess(config)).values()) == {"up to date"}
    assert mtimes(config) == before
    bold = noddi.bold_run(copied / "data", "43")
    bold.write_bytes(bold.read_bytes()[:-10_000])
    summary = pipeline.preprocess(config)
    assert states(summary) == {"sub-32": "up to date", "sub-43": "failed"}
    assert "truncated" in summary.rows[1].error
    assert [entry.key for entry in Store(config.output).recordings] == ["sub-32"]
    assert verify(config.output) == []
    after = mtimes(config)
    assert (after["sub-32.h5"], after["sub-43.h5"]) == (before["sub-32.h5"], before["sub-43.h5"])


def start_command(folder):
    launch = ROOT / "launch" / "preprocess.py"
    return subprocess.Popen(
        [sys.executable, str(launch), str(write_config(folder))],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(command):
    lines = []
    for line in command.stderr:
        lines.append(line)
        if " done" in line:
            return
    raise AssertionError("".join(lines))


def workers_of(command):
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "-s", str(command.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


@pytest.mark.slow
def test_real_interrupt_then_killed_workers_end_in_the_same_store(copied):
    config = configure(copied, bold__transform="affine")
    fingerprint = Store(config.output).fingerprint
    shards = config.output.with_suffix(".shards")
    before = mtimes(config)
    (shards / "sub-32.h5").unlink()

    interrupted = start_command(copied)
    wait_for_step(interrupted)
    os.killpg(interrupted.pid, signal.SIGINT)
    errors = interrupted.communicate(timeout=600)[1]
    assert interrupted.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; the same command continues"
    assert "Traceback" not in errors
    assert workers_of(interrupted) == []
    assert not (shards / "sub-32.h5").exists()

    killed = start_command(copied)
    wait_for_step(killed)
    for worker in workers_of(killed):
        os.kill(worker, signal.SIGKILL)
    errors = killed.communicate(timeout=600)[1]
    assert killed.returncode == 0, errors
    assert Store(config.output).fingerprint == fingerprint
    assert verify(config.output) == []
    assert mtimes(config)["sub-43.h5"] == before["sub-43.h5"]
    assert list(shards.glob(".*.part")) == []
