"""Faults planted in real trainings: each is noticed, named, and leaves a run that can go on."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from eeg2fmri_dist.inference.weights import resolve_weights
from eeg2fmri_dist.store import RecordingEntry, merge, write_shard
from tests.helpers.rank_processes import ROOT, finish, run_ranks, start_ranks
from tests.helpers.stores import make_layout, make_recording, make_store
from tests.helpers.tiny_trainings import CAE, TRANSFORMER, assert_same_run, broken, command

SAVE_EACH_STEP = "checkpoints.every_steps=1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder):
    run_ranks(command(folder, "undisturbed", CAE), 1)
    return folder / "undisturbed"


@pytest.fixture
def moment(tmp_path, monkeypatch):
    """A file that a faulty training makes at the moment in question."""
    path = tmp_path / "moment"
    monkeypatch.setenv("MOMENT", str(path))
    return path


def wait_for(path, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan_data", "the training loss of rank 1 became nan at step 6"),
        ("nan_weight", "weights of rank 1 are not finite after step 5"),
        pytest.param("nan_gradient", "step 6", marks=pytest.mark.faults),
    ],
)
def test_numbers_that_are_not_finite_end_the_run_before_a_checkpoint_holds_them(
    folder, fault, message
):
    codes, output = finish(start_ranks(broken(fault, folder, fault, CAE, SAVE_EACH_STEP), 2))
    assert codes == [5, 5], output
    assert message in output
    assert "its batch: windows [" in output
    assert "sub-01 volumes" in output
    weights = load_file(resolve_weights(folder / fault, "latest"))
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_rewind_leaves_the_bad_batch_out_and_goes_on(folder):
    run = folder / "rewound"
    output = run_ranks(
        broken("nan_data", folder, run.name, CAE, SAVE_EACH_STEP, "watchdog.rewinds=1"), 2
    )
    assert "going back to the last checkpoint, without that batch" in output
    assert len(json.loads((run / "skipped_batches.json").read_text())) == 1
    assert "up to date" in run_ranks(
        command(folder, run.name, CAE, SAVE_EACH_STEP, "watchdog.rewinds=1"), 1
    )


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["stall", "freeze"])
def test_a_rank_that_stands_still_is_named_and_all_end(folder, fault):
    processes = start_ranks(
        broken(fault, folder, fault, TRANSFORMER, "watchdog.stall_timeout_s=20"), 2
    )
    try:
        assert processes[0].wait(timeout=240) == 5
        if fault == "stall":
            assert processes[1].wait(timeout=60) == 5
    finally:
        processes[1].send_signal(signal.SIGKILL)
    output = processes[0].communicate()[0]
    assert "no progress for 20 s" in output
    culprit = next(line for line in output.splitlines() if line.startswith("  rank 1:"))
    if fault == "stall":
        assert "step 5, reading a batch" in culprit
    else:
        assert "silent: frozen or dead" in culprit


@pytest.mark.faults
def test_what_lies_in_the_padding_of_parts_does_not_matter(folder):
    """Three ranks cut no parameter of the model without a rest."""
    zero_3 = ["engine.zero_stage=3", "optimization.epochs=2"]
    dirty = broken("dirty_memory", folder, "dirty", CAE, *zero_3)
    run_ranks(dirty, 3)
    run_ranks(command(folder, "clean", CAE, *zero_3), 3)
    assert_same_run(folder / "dirty", folder / "clean")


def test_a_rank_that_dies_is_named_by_the_others(folder):
    codes, output = finish(start_ranks(broken("die", folder, "dead", TRANSFORMER), 2))
    assert codes == [4, -signal.SIGKILL], output
    assert "the other ranks cannot be reached" in output
    culprit = next(line for line in output.splitlines() if line.startswith("  rank 1:"))
    assert "silent" in culprit
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "fault",
    [
        "slow_validation",
        pytest.param("slow_start", marks=pytest.mark.faults),
        pytest.param("slow_save", marks=pytest.mark.faults),
    ],
)
def test_a_signal_is_heeded_at_any_time_and_nothing_is_lost(folder, undisturbed, moment, fault):
    run = folder / f"signal-in-{fault}"
    processes = start_ranks(broken(fault, folder, run.name, CAE), 1)
    wait_for(moment)
    processes[0].send_signal(signal.SIGUSR2)
    codes, output = finish(processes)
    assert codes == [75], output
    assert "stopped by SIGUSR2" in output
    run_ranks(command(folder, run.name, CAE), 1)
    assert_same_run(run, undisturbed)


def test_a_signal_ends_the_wait_for_a_rank_that_never_comes(folder):
    alone, never = start_ranks(command(folder, "alone", CAE), 2)
    never.kill()
    time.sleep(8)  # long enough to be waiting; too early would be heeded as well
    alone.send_signal(signal.SIGTERM)
    codes, output = finish([alone, never], timeout_s=60)
    assert codes[0] == 75, output
    assert "stopped by SIGTERM before the first step" in output


RANK_1_WAITS_AND_RANK_0_NEVER_JOINS = """
from eeg2fmri_dist.training.distributed.preemption import StopRequest
stop = StopRequest()
import os, time
from pathlib import Path
from torch.distributed import TCPStore
from eeg2fmri_dist.training.distributed.ranks import discover_ranks
from eeg2fmri_dist.training.distributed.rendezvous import join_ranks
if os.environ["RANK"] == "0":
    port = int(os.environ["MASTER_PORT"])
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    time.sleep(600)
Path(os.environ["MOMENT"]).touch()
join_ranks(discover_ranks(2), "gloo", stop)
"""


def test_a_rank_whose_peer_ends_at_the_same_signal_still_stops_cleanly(moment):
    never, waiting = start_ranks(["-c", RANK_1_WAITS_AND_RANK_0_NEVER_JOINS], 2)
    wait_for(moment)
    time.sleep(1)  # into torch's waiting
    waiting.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    never.kill()
    codes, output = finish([never, waiting], timeout_s=60)
    assert codes[1] == 75, output
    assert "stopped by SIGUSR1 before the first step" in output
    assert "terminate" not in output, output


RANK_2_NEVER_COMES = """
from eeg2fmri_dist.training.distributed.preemption import StopRequest
stop = StopRequest()
import os, sys
from pathlib import Path
from torch import distributed
from eeg2fmri_dist.errors import SuiteError
from eeg2fmri_dist.training.distributed.ranks import discover_ranks
from eeg2fmri_dist.training.distributed.rendezvous import join_ranks
join = distributed.init_process_group
def tell_and_join(*arguments, **options):
    Path(os.environ["MOMENT"] + os.environ["RANK"]).touch()
    join(*arguments, **options)
distributed.init_process_group = tell_and_join
try:
    join_ranks(discover_ranks(3), "gloo", stop)
except SuiteError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("victim", "number", "codes", "message"),
    [
        (0, signal.SIGUSR1, [75, 75], "another rank was stopped before the first step"),
        (1, signal.SIGTERM, [75, 75], "another rank was stopped before the first step"),
        (0, signal.SIGKILL, [-signal.SIGKILL, 4], "rank 1 of 3 could not join the others"),
    ],
)
def test_what_happens_to_a_rank_while_it_joins_is_noticed_by_all(
    moment, victim, number, codes, message
):
    *waiting, never = start_ranks(["-c", RANK_2_NEVER_COMES], 3)
    never.kill()
    for rank in range(2):
        wait_for(moment.with_name(f"{moment.name}{rank}"))
    waiting[victim].send_signal(number)
    found, output = finish([*waiting, never], timeout_s=60)
    assert found[:2] == codes, output
    assert message in output
    assert "terminate" not in output, output


def test_a_signal_in_the_first_moments_is_heeded_too(folder):
    run = folder / "signal-at-once"
    (process,) = start_ranks(command(folder, run.name, CAE), 1)
    status = Path(f"/proc/{process.pid}/status")
    while True:  # until Python itself is up
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            break
    process.send_signal(signal.SIGUSR1)
    codes, output = finish([process])
    assert codes == [75], output
    assert "stopped by SIGUSR1" in output


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("checkpoints.asynchronous=false", marks=pytest.mark.faults),
        "checkpoints.asynchronous=true",
    ],
)
def test_a_checkpoint_half_written_at_a_kill_is_never_loaded(folder, undisturbed, moment, mode):
    run = folder / f"killed-in-save-{mode[-4:]}"
    processes = start_ranks(broken("slow_save", folder, run.name, CAE, mode), 1)
    wait_for(moment)
    processes[0].send_signal(signal.SIGKILL)
    finish(processes)
    assert not (run / "checkpoints" / "latest").exists()
    run_ranks(command(folder, run.name, CAE, mode), 1)
    assert_same_run(run, undisturbed)


def test_a_full_disk_during_a_save_keeps_the_checkpoints_that_were_there(
    folder, undisturbed, tmp_path
):
    """A real file system with room for few checkpoints; made larger, the run goes on."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here: a small file system cannot be mounted")
    run = tmp_path / "disk" / "run"
    train = " ".join(
        [sys.executable, *command(folder, "unused", CAE, "checkpoints.keep=50")]
    ).replace(str(folder / "unused"), str(run))
    script = f"""
        mkdir -p {run.parent} && mount -t tmpfs -o size=900k tmpfs {run.parent}
        {train}; echo "exit code $?"
        mount -o remount,size=50m {run.parent}
        {train} && cp -r {run} {tmp_path / "copy"}
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    output = done.stdout + done.stderr
    assert "exit code 4" in output, output
    assert "No space left on device" in output
    assert "resumed from" in output
    assert "Traceback" not in output
    assert_same_run(tmp_path / "copy", undisturbed)


def test_a_store_that_holds_a_recording_twice_is_refused(tmp_path):
    import numpy as np

    layout = make_layout()
    eeg, bold = make_recording(np.random.default_rng(0), layout, 40, 1.0)
    shards = []
    for subject in ("01", "02", "03", "04", "05", "06", "07", "08"):
        shards.append(tmp_path / f"{subject}.h5")
        entry = RecordingEntry(
            subject=subject, session="", run="", tr_s=2.0, first_sample=0, n_samples=40
        )
        write_shard(shards[-1], layout, entry, eeg, bold)
    merge(shards, tmp_path / "store.h5")
    codes, output = finish(start_ranks(command(tmp_path, "twice", CAE), 1))
    shutil.rmtree(tmp_path / "twice")
    assert codes == [5], output
    assert "the data set repeats" in output
