"""Preprocessing of many recordings: workers, scheduler, merge."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.store import RecordingEntry, merge, write_shard
from preprocessing.cluster.client import open_cluster
from preprocessing.job import pipeline
from preprocessing.job.shards import Shard, shard_of
from preprocessing.recordings import Recording
from tests.benchmarks import no_op_steps
from tests.benchmarks.measuring import Measurement, quartiles, seconds, time_in_turn
from tests.benchmarks.processes import use
from tests.benchmarks.trainings import GRID
from tests.helpers.stores import make_layout

SUBJECTS = ("32", "35", "36", "37", "38", "40", "42", "43")
N_VOLUMES = 295
N_SHARDS = 8
MERGE_ROUNDS = 7


def two_workers(n_volumes: int = 300) -> Measurement:
    """Wall time of the whole command with one worker over that with two."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        subjects = ",".join(f'"{subject}"' for subject in SUBJECTS)
        simulated = [f"output={folder / 'data'}", f"subjects=[{subjects}]", "sfreq_hz=250"]
        use(
            [
                *("launch/simulate.py", "configs/simulate/noddi.yaml", *simulated),
                f"n_volumes={n_volumes}",
            ],
            cores=2,
        )
        walls = {workers: _wall_s(folder, workers) for workers in (1, 2)}
        halves_s = _halves_wall_s(folder)
    return Measurement(
        value=walls[1] / walls[2],
        unit="times faster",
        against="one worker",
        target=">= 1.8",
        notes=[
            f"one worker {walls[1]:.1f} s, two {walls[2]:.1f} s: {len(SUBJECTS)} simulated "
            f"recordings of {n_volumes} volumes, corrected EEG at 250 Hz, SyN; start, quality "
            "pages and merge included",
            f"the same split into two commands that know nothing of each other: {halves_s:.1f} s, "
            f"{walls[1] / halves_s:.2f} times faster, is what these cores allow",
        ],
    )


def _halves_wall_s(folder: Path) -> float:
    """Wall time of two commands at once, each with half of the recordings and one worker."""
    halves = {"first": SUBJECTS[::2], "second": SUBJECTS[1::2]}
    with ThreadPoolExecutor(len(halves)) as pool:
        runs = [
            pool.submit(_wall_s, folder, 1, name, [f"source.subjects={json.dumps(subjects)}"])
            for name, subjects in halves.items()
        ]
        return max(run.result() for run in runs)


def _wall_s(folder: Path, workers: int, name: str = "", more: Sequence[str] = ()) -> float:
    overrides = [
        f"source.path={folder / 'data'}",
        "source.origin=simulated",
        f"output={folder / (name or str(workers)) / 'store.h5'}",
        f"cluster.workers={workers}",
        *more,
    ]
    arguments = ["launch/preprocess.py", "configs/preprocess/noddi.yaml", *overrides]
    return use(arguments, cores=2).wall_s


def scheduler(n_recordings: int = 10_000) -> Measurement:
    """What Dask and the pipeline around it take for recordings whose steps do nothing."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        config = PreprocessConfig.model_validate(
            {
                "source": {"name": "noddi", "path": name},
                "output": Path(name) / "store.h5",
                "cluster": {"workers": 1},
            }
        )
        with (
            mock.patch.object(pipeline, "steps", no_op_steps),
            open_cluster(config.cluster, Path(name)) as cluster,
        ):
            pipeline._compute(cluster, _missing(config, "warm", 10), config)
            stale = _missing(config, "r", n_recordings)
            rows = {}
            took_s = seconds(lambda: rows.update(pipeline._compute(cluster, stale, config)))
    assert len(rows) == n_recordings
    return Measurement(
        value=1e3 * took_s / n_recordings,
        unit="ms / recording",
        against="-",
        notes=[
            f"{n_recordings:,} recordings of three steps that do nothing: {took_s:.1f} s, one "
            "worker; submitting, scheduling, progress and rows of the summary"
        ],
    )


def _missing(config: PreprocessConfig, prefix: str, count: int) -> list[Shard]:
    """Recordings without files, all to compute."""
    recordings = [
        Recording(f"{prefix}{number:05d}", Path("no.vhdr"), Path("no.nii.gz"))
        for number in range(count)
    ]
    return [shard_of(recording, config) for recording in recordings]


def merge_against_cp() -> Measurement:
    """Bytes per second of the merge over those of cp; both end when the bytes are on the disk."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        shards = _shards(folder)
        store, copies = folder / "store.h5", folder / "copies"

        def merge_all() -> None:
            store.unlink(missing_ok=True)
            merge(shards, store)

        def copy_all() -> None:
            _copy(shards, copies)
            subprocess.run(["sync", *copies.iterdir()], check=True)

        pair = time_in_turn(merge_all, copy_all, MERGE_ROUNDS)
        plain_s = min(seconds(lambda: _copy(shards, copies)) for _ in range(2))
        merged_bytes = store.stat().st_size
    speeds = [1 / ratio for ratio in pair.ratios]
    best_s = min(pair.ours_s)
    return Measurement(
        value=sorted(speeds)[len(speeds) // 2],
        unit="of the speed of cp",
        against="cp and sync of the same shards",
        target=">= 0.8",
        spread=quartiles(speeds),
        notes=[
            f"{N_SHARDS} shards, {merged_bytes / 1e9:.2f} GB, source files in memory; best: merge "
            f"{best_s:.2f} s, cp and sync {min(pair.theirs_s):.2f} s, cp alone (nothing on the "
            f"disk yet) {plain_s:.2f} s",
            "the merge also compares each row with its checksum",
        ],
    )


def _copy(shards: list[Path], copies: Path) -> None:
    copies.mkdir(exist_ok=True)
    for copy in copies.iterdir():
        copy.unlink()
    subprocess.run(["cp", *shards, copies], check=True)


def _shards(folder: Path) -> list[Path]:
    """Shards of NODDI's size, of noise."""
    layout = make_layout(GRID)
    rng = np.random.default_rng(0)
    bold = rng.random((N_VOLUMES, *GRID), dtype=np.float32)
    eeg = rng.random((N_VOLUMES, *layout.row_shape("eeg")), dtype=np.float32)
    shards = []
    for number in range(N_SHARDS):
        entry = RecordingEntry(
            subject=f"{number:02d}",
            session="",
            run="",
            tr_s=2.16,
            first_sample=0,
            n_samples=N_VOLUMES,
            sources=(),
            quality={},
        )
        shards.append(folder / f"{number}.h5")
        write_shard(shards[-1], layout, entry, eeg, bold)
    return shards
