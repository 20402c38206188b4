"""What the pipeline would do, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.job.estimates import predicted_step_s, rates_of
from preprocessing.job.inventory import examine_all, excluded_rows, refused_rows, select_runs
from preprocessing.job.merging import why_merge
from preprocessing.job.preconditions import as_text, bytes_needed, free_bytes
from preprocessing.job.shards import Shard, shard_folder
from preprocessing.job.source_files import eeg_bytes
from preprocessing.job.summary import core_time, table
from preprocessing.layouts.selection import Selection


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
    selection, runs = select_runs(config)
    shards, rows = examine_all(runs, config)
    rows |= refused_rows(selection)
    problems = {run.key: run.problem for run in runs if run.problem}
    problems |= {key: row.error for key, row in rows.items() if row.state == "failed"}
    n_wanted = len(runs) + len(selection.refused)
    cells = _cells(selection, shards, problems)
    lines = [
        f"{len(cells)} {config.source.name} recordings in {config.source.path}",
        *table(("recording", "", "EEG", "BOLD", "volumes", "TR (s)", "why"), cells),
    ]
    if len(problems) == n_wanted:
        raise DataError(
            "\n  ".join(["none of these recordings can be used", *lines]),
            remedy="the last column says why",
        )
    stale = [each for each in shards if each.reason is not None and each.key not in problems]
    if problems:
        lines.append(
            f"{len(problems)} of {n_wanted} recordings cannot be used: "
            f"{', '.join(sorted(problems))} (on_error: {config.on_error})"
        )
    known = (*(rows[key] for key in sorted(rows)), *excluded_rows(selection))
    why = "its shards change" if stale else why_merge(known, config)
    return [
        *lines,
        f"{len(stale)} of {len(runs)} shards to compute",
        f"{config.output}: {f'to be merged: {why}' if why else 'up to date'}",
        *_resources(config, stale, shards if why else []),
    ]


def _cells(
    selection: Selection, shards: Sequence[Shard], problems: Mapping[str, str]
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
    looked_at = {shard.key: shard for shard in shards}
    for recording in selection.selected:
        key, shard = recording.key, looked_at.get(recording.key)
        reason = (shard and shard.reason) or "up to date"
        cells.append(
            (
                key,
                "refused" if key in problems else "selected",
                *(_described(shard) if shard else unknown),
                _on_one_line(problems.get(key, reason)),
            )
        )
    return sorted(cells)


def _described(shard: Shard) -> tuple[str, str, str, str]:
    """Bytes of EEG and BOLD, volumes and TR of a recording, as far as its header can be used."""
    if shard.header is None:
        return ("?", "?", "?", "?")
    bold_path = shard.recording.bold_path
    return (
        as_text(eeg_bytes(shard.sources)),
        as_text(sum(file.size for file in shard.sources if file.path == bold_path)),
        str(shard.header.n_volumes),
        f"{shard.header.tr_s:g}",
    )


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _resources(
    config: PreprocessConfig, stale: Sequence[Shard], merged: Sequence[Shard]
) -> list[str]:
    """Time, memory and disk that it takes to compute these shards and to merge those."""
    needed = bytes_needed(config, stale, merged)
    rates = rates_of(config, shard_folder(config.output))
    seconds = sum(sum(predicted_step_s(each, rates).values()) + rates.page_s for each in stale)
    measured = (
        f"{rates.n_measured} recordings computed before"
        if rates.n_measured
        else "simulated recordings on another machine"
    )
    return [
        f"time: about {core_time(seconds)}, by {measured}; divide by the workers",
        f"memory: {config.cluster.memory_gib:g} GiB per worker at most",
        f"disk: about {as_text(needed)} needed, {as_text(free_bytes(config.output))} free",
    ]
