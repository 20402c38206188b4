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
from eeg2fmri_dist.errors import DataError, LaunchError, SuiteError
from preprocessing.cluster.client import Cluster, WorkerDiedError, open_cluster
from preprocessing.cluster.nodes import forget_meetings
from preprocessing.job import steps
from preprocessing.job.estimates import predicted_step_s, rates_of
from preprocessing.job.merging import merge_shards, why_merge
from preprocessing.job.preconditions import check_output, check_repetition_times, check_space
from preprocessing.job.progress import Progress
from preprocessing.job.quality_pages import update_pages
from preprocessing.job.shards import Examined, examine, shard_folder, shard_place
from preprocessing.job.summary import Row, Summary
from preprocessing.layouts.selection import Selection, select_recordings
from preprocessing.template.atlas import find_atlas_files

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
        selection = selection_of(config)
        if config.on_error == "stop":
            selection.whole()
        examined, rows = examine_all(selection, config)
        stale = [item for item in examined if item.reason is not None]
        if stale:
            _log_reasons(stale)
            check_space(config, [item.place.recording for item in stale], selection.selected)
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


def selection_of(config: PreprocessConfig) -> Selection:
    """Find the recordings; refuse at once what would else be refused when the shards are there.

    Raises
    ------
    DataError
        If `preprocessing.layouts.selection.select_recordings` finds none, or repetition times
        differ.
    ConfigError
        If ``output`` or ``atlas.path`` cannot be what it says, or ``eeg.window_s`` is too long.
    """
    check_output(config.output)
    find_atlas_files(config.atlas)
    selection = select_recordings(config.source)
    check_repetition_times(selection.selected, config)
    return selection


def examine_all(
    selection: Selection, config: PreprocessConfig
) -> tuple[list[Examined], dict[str, Row]]:
    """Look at all shards; return also the rows of those up to date, and those that failed."""
    examined: list[Examined] = []
    rows = {
        item.recording.key: Row(
            item.recording.key, "failed", message="its files cannot be used", error=item.reason
        )
        for item in selection.refused
    }
    for recording in selection.selected:
        try:
            item = examine(shard_place(recording, config))
        except DataError as error:
            rows[recording.key] = _failed(recording.key, "looking at its files", error)
            continue
        examined.append(item)
        if item.reason is None:
            rows[recording.key] = Row(**{**item.record["row"], "state": "up to date"})
    return examined, rows


def excluded_rows(selection: Selection) -> tuple[Row, ...]:
    """Return the rows of recordings that a person left out."""
    return tuple(
        Row(item.recording.key, "excluded", message=item.reason) for item in selection.excluded
    )


def _log_reasons(stale: Sequence[Examined]) -> None:
    reasons: dict[str, list[str]] = {}
    for item in stale:
        reasons.setdefault(str(item.reason), []).append(item.place.recording.key)
    for reason, keys in reasons.items():
        logger.info("to compute, because %s: %s", reason, ", ".join(keys))


def _compute(
    cluster: Cluster, stale: Sequence[Examined], config: PreprocessConfig
) -> dict[str, Row]:
    """Run the steps of these recordings; one row for each."""
    cluster.start(len(stale) * 2)
    rows, died = _run_steps(cluster, stale, config)
    if len(died) > 1:
        # Steps that only waited on a worker which another one killed are blamed with it.
        logger.info("trying again, one at a time: %s", ", ".join(died))
        for item in stale:
            if item.place.recording.key in died:
                rows |= _run_steps(cluster, [item], config)[0]
    return rows


def _run_steps(
    cluster: Cluster, stale: Sequence[Examined], config: PreprocessConfig
) -> tuple[dict[str, Row], list[str]]:
    """Run the steps of these recordings; a row for each, and those whose workers died."""
    doing = _submit(cluster, stale, config)
    rows: dict[str, Row] = {}
    died = []
    with Progress(_work(stale, config)) as progress:
        for future in cluster.completed(doing):
            # Forgotten here, a result leaves the workers' memory as soon as no step needs it.
            item, step = doing.pop(future)
            key = item.place.recording.key
            error = cluster.error(future)
            if error is None:
                progress.finished(f"{key}: {step}")
                if step == "shard":
                    rows[key] = _row_of_shard(item, future)
                continue
            progress.failed(f"{key}: {step}")
            # Later steps fail with the error of the earlier one.
            if key not in rows:
                rows[key] = _failed(key, step, error)
                if isinstance(error, WorkerDiedError):
                    died.append(key)
    return rows, died


def _row_of_shard(item: Examined, future: Any) -> Row:
    """The row of a shard that was written, from its record if that can be seen here already.

    A worker inside ANTs answers late, and a dead one never: its shard would be computed again.
    """
    with contextlib.suppress(DataError):  # a source file may be gone by now
        written = examine(item.place)
        if written.reason is None:
            return Row(**written.record["row"])
    row: Row = future.result()
    return row


def _work(stale: Sequence[Examined], config: PreprocessConfig) -> dict[str, float]:
    """What each step is expected to take; those of recordings that cannot be opened, nothing."""
    rates = rates_of(config, shard_folder(config.output))
    work: dict[str, float] = {}
    for item in stale:
        recording, seconds = item.place.recording, rates.step_s(0, 0)
        with contextlib.suppress(DataError):
            seconds = predicted_step_s(recording, config, rates)
        work |= {f"{recording.key}: {step}": value for step, value in seconds.items()}
    return work


def _submit(
    cluster: Cluster, stale: Sequence[Examined], config: PreprocessConfig
) -> dict[Any, tuple[Examined, str]]:
    """Submit the steps of these recordings; what each future is of.

    Dask hands out steps of one kind as workers become free, if their names begin alike and they are
    submitted one after the other; of those that can run, the ones of the first recordings.
    """

    def submit(name: str, step: Callable[..., Any], rank: int, *arguments: Any) -> Any:
        key = stale[rank].place.recording.key
        return cluster.submit(step, *arguments, name=f"{name} of {key}", rank=rank)

    recordings = [item.place.recording for item in stale]
    registrations = [
        submit("registration", steps.register, rank, recording, config)
        for rank, recording in enumerate(recordings)
    ]
    features = [
        submit("EEG features", steps.eeg, rank, recording, config)
        for rank, recording in enumerate(recordings)
    ]
    shards = [
        submit("shard", steps.shard, rank, item, config, registrations[rank], features[rank])
        for rank, item in enumerate(stale)
    ]
    named = {"registration": registrations, "EEG features": features, "shard": shards}
    return {
        future: (item, name)
        for name, futures in named.items()
        for item, future in zip(stale, futures, strict=True)
    }


def _failed(key: str, step: str, error: BaseException) -> Row:
    """The row of a recording that failed; what concerns all recordings is raised at once."""
    if not isinstance(error, SuiteError):
        logger.debug("%s: %s", key, step, exc_info=error)
        error = DataError(
            f"{type(error).__name__}: {error}",
            remedy="run it again with --debug, which shows the traceback",
        )
    if not isinstance(error, DataError):
        raise error
    logger.error("%s: %s failed: %s", key, step, error)
    return Row(key, "failed", message=f"{step} failed", error=str(error))


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
