"""Preprocessing killed at many moments, on full and read-only disks: `make test-faults`.

Each is started again until it is finished, and must end with the store of an undisturbed run.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from preprocessing.job.shard_record import record_path
from tests.helpers.preprocessing_jobs import (
    ROOT,
    contents,
    preprocess,
    simulate_recordings,
    write_config,
)

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    simulate_recordings(folder, ["32", "43"])
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder):
    """Contents of an undisturbed run, and its duration."""
    began = time.monotonic()
    done = preprocess(write_config(folder / "undisturbed", folder / "data", workers=2))
    assert done.returncode == 0, done.stderr
    return contents(folder / "undisturbed"), time.monotonic() - began


def start(config):
    return subprocess.Popen(
        [sys.executable, "launch/preprocess.py", str(config)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(command, text):
    for line in command.stderr:
        if text in line:
            return
    raise AssertionError(f"no line with {text!r}")


def workers_of(command):
    """Worker processes, which a nanny each keeps alive."""
    return [
        child
        for child in psutil.Process(command.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]


def finished(ours):
    """Times of the shards whose records are written: these must not be computed again."""
    shards = (ours / "store.shards").glob("sub-*.h5")
    return {path: path.stat().st_mtime_ns for path in shards if record_path(path).exists()}


def assert_finishes(config, expected, kept):
    done = preprocess(config)
    assert done.returncode == 0, done.stderr
    assert contents(config.parent) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    leftovers = [path for path in config.parent.rglob("*") if path.name.endswith(".part")]
    assert leftovers == []


@pytest.mark.parametrize("n_done", range(6))
def test_a_worker_killed_in_any_step(folder, undisturbed, n_done):
    # One worker: when so many steps are done, it is in the next one.
    config = write_config(folder / f"worker-{n_done}", folder / "data", workers=1)
    command = start(config)
    wait_for_line(command, f"[{n_done}/6]" if n_done else "to compute")
    deadline = time.monotonic() + 30
    while not (workers := workers_of(command)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2 if n_done else 4)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    errors = command.communicate(timeout=200)[1]
    assert command.returncode == 0, errors
    assert contents(config.parent) == undisturbed[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_job_killed_at_any_moment(folder, undisturbed, seed):
    expected, duration_s = undisturbed
    chance = random.Random(seed)
    config = write_config(folder / f"job-{seed}", folder / "data", workers=2)
    command = start(config)
    time.sleep(chance.uniform(0.1, 0.95) * duration_s)
    if chance.random() < 0.5:
        os.killpg(command.pid, signal.SIGKILL)
    else:
        command.kill()  # scheduler and client; the workers see to themselves
    command.communicate(timeout=60)
    wait_until_alone(command.pid)
    assert_finishes(config, expected, finished(config.parent))


def wait_until_alone(session):
    """Workers of a killed scheduler end by themselves."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = subprocess.run(
            ["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False
        )
        if not [state for state in listed.stdout.split() if not state.startswith("Z")]:
            return
        time.sleep(0.1)
    raise AssertionError("workers outlive their scheduler")


@pytest.mark.parametrize("limit", [100_000, 700_000])
def test_a_full_disk(folder, undisturbed, limit):
    """A limit on file sizes: the first is met by a shard, the second by the store."""
    config = write_config(folder / f"full-{limit}", folder / "data", workers=2)
    done = preprocess(config, launcher=("prlimit", f"--fsize={limit}"))
    assert done.returncode == 4, done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "store.h5").exists()
    kept = finished(config.parent)
    assert len(kept) == (0 if limit < 500_000 else 2)
    assert_finishes(config, undisturbed[0], kept)


def test_a_read_only_disk(folder, undisturbed):
    if os.geteuid() != 0:
        pytest.skip("a read-only mount needs root")
    config = write_config(folder / "read-only", folder / "data", workers=2)
    shell = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    launcher = ("unshare", "--mount", "sh", "-c", shell, str(config.parent))
    done = preprocess(config, launcher=launcher)
    assert done.returncode == 4, done.stderr
    assert "cannot be written (Read-only file system)" in done.stderr
    assert_finishes(config, undisturbed[0], {})


@pytest.mark.parametrize("seed", range(4))
def test_a_shard_damaged_on_disk(folder, undisturbed, seed):
    shutil.copytree(folder / "undisturbed", folder / f"damaged-{seed}")
    config = write_config(folder / f"damaged-{seed}", folder / "data", workers=2)
    kept = finished(config.parent)
    chance = random.Random(seed)
    victim = chance.choice(sorted(kept))
    if seed == 0:
        os.truncate(victim, victim.stat().st_size // 2)
    else:
        content = bytearray(victim.read_bytes())
        # Within the volumes: not every byte of HDF5's own bookkeeping holds something.
        content[chance.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 1
        victim.write_bytes(content)
    del kept[victim]
    (config.parent / "store.h5").unlink()
    assert_finishes(config, undisturbed[0], kept)


def test_a_recording_that_fails_stops_no_other(folder):
    broken = folder / "broken-data"
    shutil.copytree(folder / "data", broken)
    bold = next((broken / "fMRI" / "43").glob("*mepi*.nii.gz"))
    os.truncate(bold, bold.stat().st_size // 2)
    config = write_config(folder / "one-fails", broken, workers=2)
    done = preprocess(config, "on_error=continue")
    assert done.returncode == 3, done.stderr
    assert "1 of 2 recordings failed; the store has the others" in done.stderr
    assert "sub-43" in done.stderr.rpartition("error:")[2]
    assert "truncated" in done.stderr.rpartition("error:")[2]
    assert set(contents(config.parent)) == {"store.h5", "sub-32.h5"}
