"""What the pipeline would do, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.job import steps
from preprocessing.job.estimates import predicted_step_s, rates_of
from preprocessing.job.merging import why_merge
from preprocessing.job.pipeline import examine_all, excluded_rows, selection_of
from preprocessing.job.preconditions import as_text, bytes_needed, free_bytes
from preprocessing.job.shards import shard_folder
from preprocessing.job.source_files import source_states
from preprocessing.job.summary import core_time, table
from preprocessing.layouts.selection import Selection
from preprocessing.recordings import Recording


def plan(config: PreprocessConfig) -> list[str]:
    """Say what `preprocessing.job.pipeline.preprocess` would do.

    Returns
    -------
    list of str
        Lines: a table of the recordings (selected, excluded, refused, and why), what would be
        computed and why, processor time, disk space.

    Raises
    ------
    DataError
        If no recording is found, or none can be used.
    ConfigError
        If ``output`` or ``atlas.path`` cannot be what it says.
    """
    selection = selection_of(config)
    recordings = selection.selected
    examined, rows = examine_all(selection, config)
    reasons = {item.place.recording.key: item.reason or "up to date" for item in examined}
    problems = {key: row.error for key, row in rows.items() if row.state == "failed"}
    problems |= _unusable([item.place.recording for item in examined], config)
    n_wanted = len(recordings) + len(selection.refused)
    cells = _cells(selection, problems, reasons, config)
    lines = [
        f"{len(cells)} {config.source.kind} recordings in {config.source.path}",
        *table(("recording", "", "EEG", "BOLD", "volumes", "TR (s)", "why"), cells),
    ]
    if len(problems) == n_wanted:
        raise DataError(
            "\n  ".join(["none of these recordings can be used", *lines]),
            remedy="the last column says why",
        )
    stale = [
        item.place.recording
        for item in examined
        if item.reason is not None and item.place.recording.key not in problems
    ]
    if problems:
        lines.append(
            f"{len(problems)} of {n_wanted} recordings cannot be used: "
            f"{', '.join(problems)} (on_error: {config.on_error})"
        )
    known = (*(rows[key] for key in sorted(rows)), *excluded_rows(selection))
    why = "its shards change" if stale else why_merge(known, config)
    return lines + _work(config, recordings, stale, why)


def _cells(
    selection: Selection,
    problems: Mapping[str, str],
    reasons: Mapping[str, str],
    config: PreprocessConfig,
) -> list[tuple[str, ...]]:
    """Rows of the table, by key."""
    unknown = ("?",) * 4
    dismissed = (
        ("not selected", selection.unselected),
        ("excluded", selection.excluded),
        ("refused", selection.refused),
    )
    cells: list[tuple[str, ...]] = [
        (item.recording.key, state, *unknown, _on_one_line(item.reason))
        for state, items in dismissed
        for item in items
    ]
    for recording in selection.selected:
        problem = problems.get(recording.key)
        cells.append(
            (
                recording.key,
                "refused" if problem else "selected",
                *_described(recording, config),
                _on_one_line(problem or reasons[recording.key]),
            )
        )
    return sorted(cells)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _work(
    config: PreprocessConfig,
    recordings: Sequence[Recording],
    stale: Sequence[Recording],
    why: str | None,
) -> list[str]:
    """What is to be computed, why the store would be merged, and what it takes."""
    needed = bytes_needed(config, stale, recordings if why else [])
    rates = rates_of(config, shard_folder(config.output))
    seconds = sum(
        sum(predicted_step_s(recording, config, rates).values()) + rates.page_s
        for recording in stale
    )
    measured = (
        f"{rates.n_measured} recordings computed before"
        if rates.n_measured
        else "simulated recordings on another machine"
    )
    return [
        f"{len(stale)} of {len(recordings)} shards to compute",
        f"{config.output}: {f'to be merged: {why}' if why else 'up to date'}",
        f"time: about {core_time(seconds)}, by {measured}; divide by the workers",
        f"memory: {config.cluster.memory_gib:g} GiB per worker at most",
        f"disk: about {as_text(needed)} needed, {as_text(free_bytes(config.output))} free",
    ]


def _unusable(recordings: Sequence[Recording], config: PreprocessConfig) -> dict[str, str]:
    """Why recordings would be refused before any step has run, as far as headers say."""
    problems = {}
    for recording in recordings:
        try:
            steps.open_run(recording, config)
        except DataError as error:
            problems[recording.key] = error.what
    return problems


def _described(recording: Recording, config: PreprocessConfig) -> tuple[str, str, str, str]:
    """Bytes of EEG and BOLD, volumes and TR of a recording, as far as they can be read."""
    try:
        *eeg, bold = source_states(recording)
        run = steps.open_run(recording, config)
    except DataError:
        return ("?", "?", "?", "?")
    return (
        as_text(sum(file.size for file in eeg)),
        as_text(bold.size),
        str(run.n_volumes),
        f"{run.tr_s:g}",
    )
