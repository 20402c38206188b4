"""Raw recordings -> one store: a Dask graph with one shard per recording, then a merge."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError, LaunchError
from preprocessing.cluster.client import Cluster, WorkerDiedError, open_cluster
from preprocessing.cluster.nodes import forget_meetings
from preprocessing.job import steps
from preprocessing.job.estimates import predicted_step_s, rates_of
from preprocessing.job.inventory import examine_all, excluded_rows, refused_rows, select_runs
from preprocessing.job.merging import merge_shards, why_merge
from preprocessing.job.preconditions import check_output, check_space
from preprocessing.job.progress import Progress
from preprocessing.job.quality_pages import update_pages
from preprocessing.job.shards import Shard, examine, keep_record, shard_folder
from preprocessing.job.summary import Row, Summary, failed_row

logger = logging.getLogger(__name__)


def preprocess(config: PreprocessConfig) -> Summary:
    """Bring a store up to date: compute the shards that are missing, stale or damaged, and merge.

    Shards that are finished are kept whatever happens to the others; the same command continues.

    Parameters
    ----------
    config : PreprocessConfig

    Returns
    -------
    Summary

    Raises
    ------
    DataError
        If no recording is found; if one fails and ``on_error`` is "stop"; if all fail.
    LaunchError
        If the disk is full, the cluster cannot run, or another process writes the same store.
    """
    check_output(config.output)
    # Under Slurm or MPI all tasks of the job come here, and only one goes on.
    with (
        open_cluster(config.cluster, shard_folder(config.output)) as cluster,
        _sole_writer(config.output, keep=cluster.place),
    ):
        selection, runs = select_runs(config)
        if config.on_error == "stop":
            selection.whole()
        shards, rows = examine_all(runs, config)
        rows |= refused_rows(selection)
        for shard in shards:
            keep_record(shard)
        stale = [shard for shard in shards if shard.reason is not None]
        if stale:
            _log_reasons(stale)
            check_space(config, stale, shards)
            rows |= _compute(cluster, stale, config)
        ordered = tuple(rows[key] for key in sorted(rows))
        excluded = excluded_rows(selection)
        if config.quality:
            update_pages(cluster, ordered + excluded, config)
    failed = [row for row in ordered if row.state == "failed"]
    if failed and (config.on_error == "stop" or len(failed) == len(ordered)):
        _log_table(Summary(config.output, merged=False, rows=ordered + excluded))
        raise _failures(failed, len(ordered), config)
    summary = _merge(ordered + excluded, config)
    _log_table(summary)
    return summary


def _log_reasons(stale: Sequence[Shard]) -> None:
    reasons: dict[str, list[str]] = {}
    for shard in stale:
        reasons.setdefault(str(shard.reason), []).append(shard.key)
    for reason, keys in reasons.items():
        logger.info("to compute, because %s: %s", reason, ", ".join(keys))


def _compute(cluster: Cluster, stale: Sequence[Shard], config: PreprocessConfig) -> dict[str, Row]:
    """Run the steps of these recordings; one row for each."""
    cluster.start(len(stale) * 2)
    rows, died = _run_steps(cluster, stale, config)
    if len(died) > 1:
        # Steps that only waited on a worker which another one killed are blamed with it.
        logger.info("trying again, one at a time: %s", ", ".join(died))
        for shard in stale:
            if shard.key in died:
                rows |= _run_steps(cluster, [shard], config)[0]
    return rows


def _run_steps(
    cluster: Cluster, stale: Sequence[Shard], config: PreprocessConfig
) -> tuple[dict[str, Row], list[str]]:
    """Run the steps of these recordings; a row for each, and those whose workers died."""
    doing = _submit(cluster, stale, config)
    rows: dict[str, Row] = {}
    died = []
    with Progress(_work(stale, config)) as progress:
        for future in cluster.completed(doing):
            # Forgotten here, a result leaves the workers' memory as soon as no step needs it.
            shard, step = doing.pop(future)
            key, error = shard.key, cluster.error(future)
            if error is None:
                progress.finished(f"{key}: {step}")
                if step == "shard":
                    rows[key] = _row_of_shard(shard, future)
                continue
            progress.failed(f"{key}: {step}")
            # Later steps fail with the error of the earlier one.
            if key not in rows:
                rows[key] = failed_row(key, step, error)
                if isinstance(error, WorkerDiedError):
                    died.append(key)
    return rows, died


def _row_of_shard(shard: Shard, future: Any) -> Row:
    """The row of a shard that was written, from its record if that can be seen here already.

    A worker inside ANTs answers late, and a dead one never: its shard would be computed again.
    """
    with contextlib.suppress(DataError):  # a source file may be gone by now
        written = examine(shard)
        if written.record is not None:
            return written.record.row
    row: Row = future.result()
    return row


def _work(stale: Sequence[Shard], config: PreprocessConfig) -> dict[str, float]:
    """What each step is expected to take."""
    rates = rates_of(config, shard_folder(config.output))
    return {
        f"{shard.key}: {step}": seconds
        for shard in stale
        for step, seconds in predicted_step_s(shard, rates).items()
    }


def _submit(
    cluster: Cluster, stale: Sequence[Shard], config: PreprocessConfig
) -> dict[Any, tuple[Shard, str]]:
    """Submit the steps of these recordings; what each future is of.

    Dask hands out steps of one kind as workers become free, if their names begin alike and they are
    submitted one after the other; of those that can run, the ones of the first recordings.
    """

    def submit(name: str, step: Callable[..., Any], rank: int, *arguments: Any) -> Any:
        return cluster.submit(step, *arguments, name=f"{name} of {stale[rank].key}", rank=rank)

    recordings = [shard.recording for shard in stale]
    registrations = [
        submit("registration", steps.register, rank, recording, config)
        for rank, recording in enumerate(recordings)
    ]
    features = [
        submit("EEG features", steps.eeg, rank, recording, config)
        for rank, recording in enumerate(recordings)
    ]
    shards = [
        submit("shard", steps.make_shard, rank, shard, config, registrations[rank], features[rank])
        for rank, shard in enumerate(stale)
    ]
    named = {"registration": registrations, "EEG features": features, "shard": shards}
    return {
        future: (shard, name)
        for name, futures in named.items()
        for shard, future in zip(stale, futures, strict=True)
    }


def _failures(failed: Sequence[Row], n_recordings: int, config: PreprocessConfig) -> DataError:
    reasons = [f"{row.recording}: {row.message}: {row.error}" for row in failed]
    what = f"{len(failed)} of {n_recordings} recordings failed; no store was made"
    remedy = "correct these recordings, or leave them out with source.exclude"
    if config.on_error == "stop":
        remedy += ", or set on_error=continue"
    return DataError(
        textwrap.indent("\n".join([what, *reasons]), "  ").strip(),
        where=config.source.path,
        remedy=f"{remedy}; finished shards are kept",
    )


def _merge(rows: tuple[Row, ...], config: PreprocessConfig) -> Summary:
    reason = why_merge(rows, config)
    if reason is None:
        n_held = sum(row.state == "up to date" for row in rows)
        logger.info("%s is up to date (%d recordings)", config.output, n_held)
    else:
        logger.info("merging the shards, because %s", reason)
        merge_shards(rows, config)
        logger.info("wrote %s", config.output)
    return Summary(config.output, merged=reason is not None, rows=rows)


def _log_table(summary: Summary) -> None:
    for line in summary.lines():
        logger.info("%s", line)


@contextlib.contextmanager
def _sole_writer(output: Path, keep: Path | None = None) -> Iterator[None]:
    """Hold the folder of the shards for this process alone; remove what a killed one left."""
    folder = shard_folder(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise LaunchError(
            f"cannot be written ({error.strerror})",
            where=folder,
            remedy="set another `output`, or ask for write permission",
        ) from error
    with lock:
        try:
            # Given back by the operating system when this process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                "another process is preprocessing into this store",
                where=output,
                remedy="wait for it to end, or set another `output`",
            ) from None
        for leftover in [*folder.glob(".*.part"), *output.parent.glob(f".{output.name}.*.part")]:
            leftover.unlink()
        forget_meetings(folder, keep)
        yield
