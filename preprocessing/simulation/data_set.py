"""All subjects of a simulated data set, one process each."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ, SimulateConfig
from eeg2fmri_dist.errors import LaunchError
from preprocessing.layouts.noddi import CHANNELS, TRUTH_FOLDER
from preprocessing.simulation.brain.anatomy import EPI_SHAPE
from preprocessing.simulation.subject import (
    SimulatedSubject,
    is_there,
    is_up_to_date,
    remove_unfinished,
    simulate_subject,
    subject_files,
)
from preprocessing.simulation.truth import write_readme

logger = logging.getLogger(__name__)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PACKED_BOLD = 0.7  # size of the compressed run, relative to its voxels
_CHANGED = "made with other settings or another version, or changed since"
_OTHER_BYTES = 10_000_000  # anatomy and truth


def simulate(config: SimulateConfig) -> list[SimulatedSubject]:
    """Simulate the subjects of a config that are not there yet.

    Parameters
    ----------
    config : SimulateConfig

    Returns
    -------
    list of SimulatedSubject
        All subjects of the config, in its order.

    Raises
    ------
    LaunchError
        If a worker process was killed.
    """
    missing = [subject for subject in config.subjects if not is_up_to_date(config, subject)]
    kept = len(config.subjects) - len(missing)
    if kept:
        logger.info("%d of %d subjects are up to date", kept, len(config.subjects))
    changed = [subject for subject in missing if is_there(config, subject)]
    if changed:
        logger.warning("%s: to be written over, %s", ", ".join(changed), _CHANGED)
    write_readme(config.output / TRUTH_FOLDER)
    if missing:
        _simulate_in_processes(config, missing)
    logger.info("%d simulated subjects in %s", len(config.subjects), config.output)
    return [subject_files(config, subject) for subject in config.subjects]


def plan(config: SimulateConfig) -> list[str]:
    """Say what `simulate` would do, without doing it."""
    size = _bytes_per_subject(config)
    to_do = [subject for subject in config.subjects if not is_up_to_date(config, subject)]
    lines = []
    for subject in config.subjects:
        state = f"about {_gb(size)}" if subject in to_do else "up to date"
        if subject in to_do and is_there(config, subject):
            state += f", to be written over: {_CHANGED}"
        lines.append(f"subject {subject}: {state}")
    lines.append(
        f"{len(to_do)} of {len(config.subjects)} subjects to simulate in {config.output}, "
        f"{config.n_volumes} volumes of {config.tr_s:g} s, EEG at {config.sfreq_hz} Hz"
    )
    lines.append(
        f"disk: about {_gb(size * len(to_do))}, {_gb(_free_bytes(config.output))} free; "
        f"{_n_workers(config, len(to_do))} processes"
    )
    return lines


def _simulate_in_processes(config: SimulateConfig, subjects: list[str]) -> None:
    n_workers = _n_workers(config, len(subjects))
    logger.info("simulating %d subjects in %d processes", len(subjects), n_workers)
    context = multiprocessing.get_context("spawn")
    not_ours = set(multiprocessing.active_children())
    with ProcessPoolExecutor(n_workers, context, _end_with_parent) as pool:
        with _one_thread_each(), _interrupt_held_back():
            jobs = {pool.submit(simulate_subject, config, subject): subject for subject in subjects}
        try:
            _report(jobs)
        except BaseException:
            for process in set(multiprocessing.active_children()) - not_ours:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            for subject in subjects:
                remove_unfinished(subject_files(config, subject))
            raise


def _report(jobs: dict[Future[SimulatedSubject], str]) -> None:
    try:
        for number, job in enumerate(as_completed(jobs), start=1):
            job.result()
            logger.info("subject %s written (%d of %d)", jobs[job], number, len(jobs))
    except BrokenProcessPool:
        raise LaunchError(
            "a process that simulated a subject was killed, perhaps for want of memory",
            remedy="set workers=1; finished subjects are kept",
        ) from None


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Child processes read these variables when they start."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Child processes started in here never see Ctrl-C: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Start a thread that ends this process when its parent is gone, even if it was killed."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None, "runs in a child process"
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _n_workers(config: SimulateConfig, n_subjects: int) -> int:
    return max(1, min(config.workers or len(os.sched_getaffinity(0)), n_subjects))


def _bytes_per_subject(config: SimulateConfig) -> int:
    """Return what the files of a subject take on the disk, roughly."""
    scan_s = config.n_volumes * config.tr_s
    eeg = 2 * len(CHANNELS) * ((scan_s + 13) * config.sfreq_hz + scan_s * SOURCE_SFREQ_HZ)
    bold = 2 * math.prod(EPI_SHAPE) * config.n_volumes * _PACKED_BOLD
    return round(eeg + bold) + _OTHER_BYTES


def _free_bytes(folder: Path) -> int:
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
