"""A job's commands: run under a lock, signals passed on, the exit code left in a file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2fmri_dist.errors import LaunchError, StoppedError
from eeg2fmri_dist.files.atomic import write_json

EXIT_STOPPED = StoppedError.exit_code
LOCK_WAIT_S = 120  # longest wait for an earlier attempt that is still ending
_STOPPED_EARLY = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Job:
    """What is to be run.

    Attributes
    ----------
    name : str
        For people, in the queue.
    folder : Path
        Gets ``output.log``, ``outcome-N.json`` (exit code of attempt N) and the lock.
    commands : tuple of tuple of str
        Run one after the other until one fails: the first by every rank, the others by the first
        rank alone.
    attempt : int
        Counts the submissions of the same job.
    """

    name: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    attempt: int


def read_outcome(folder: Path, attempt: int) -> int | None:
    """Return the exit code that an attempt left; None if it left none."""
    try:
        return json.loads(_outcome_path(folder, attempt).read_text())["exit_code"]
    except (OSError, ValueError, KeyError):
        return None


def lock_is_held(folder: Path) -> bool:
    """Tell whether a process of a job still runs (asked of the file system)."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def run_first(job: Job) -> int:
    """Run a job's commands as its first rank, under its lock; return the exit code."""
    job.folder.mkdir(parents=True, exist_ok=True)
    outcome = _outcome_path(job.folder, job.attempt)
    with _locked(job.folder) as lock:
        outcome.unlink(missing_ok=True)  # of a job that Slurm started again
        code = _run(job, job.commands, lock)
        write_json(outcome, {"exit_code": code, "host": socket.gethostname()})
    return code


def run_here(job: Job) -> int:
    """Run a job's commands inside this process, under its lock; return the exit code."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with _locked(job.folder):
        code = next((code for code in map(_run_script, job.commands) if code != 0), 0)
        write_json(_outcome_path(job.folder, job.attempt), {"exit_code": code})
    return code


def run_beside(job: Job) -> int:
    """Run a job's first command as another rank; return the exit code."""
    job.folder.mkdir(parents=True, exist_ok=True)
    return _run(job, job.commands[:1], lock=None)


def _run(job: Job, commands: tuple[tuple[str, ...], ...], lock: int | None) -> int:
    """Run commands in processes of their own; signals to this one are passed on as SIGTERM."""
    child: subprocess.Popen | None = None
    stopping = False

    def stop(_number: int, _frame: Any) -> None:
        nonlocal stopping
        stopping = True
        if child is not None and child.poll() is None:
            child.terminate()

    previous = {number: signal.signal(number, stop) for number in _FORWARDED}
    code = 0
    try:
        with (job.folder / "output.log").open("ab") as output:
            for command in commands:
                if stopping:
                    return EXIT_STOPPED
                # The lock goes to the command, too: it is free when nothing of the job runs.
                child = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=() if lock is None else (lock,),
                )
                if stopping:
                    child.terminate()
                code = child.wait()
                if code != 0:
                    break
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    # A command that was still starting has no handler yet; a second Ctrl-C does not wait.
    return EXIT_STOPPED if stopping and code in _STOPPED_EARLY else code


def _run_script(command: tuple[str, ...]) -> int:
    """Run a Python script in this process; return its exit code."""
    _python, script, *arguments = command
    before, environment = sys.argv, dict(os.environ)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)
    return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold a job's lock; wait for an earlier attempt that is still ending."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LaunchError("another job still runs here", where=folder) from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def _outcome_path(folder: Path, attempt: int) -> Path:
    return folder / f"outcome-{attempt}.json"
