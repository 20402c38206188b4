"""What there is before anything is computed: recordings, their BOLD headers, their shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.job.preconditions import check_output, check_repetition_times
from preprocessing.job.selected_runs import SelectedRun, read_headers
from preprocessing.job.shards import Shard, examine, shard_of
from preprocessing.job.summary import Row, failed_row
from preprocessing.layouts.selection import Selection, select_recordings
from preprocessing.template.atlas import find_atlas_files


def select_runs(config: PreprocessConfig) -> tuple[Selection, tuple[SelectedRun, ...]]:
    """Find the recordings; refuse at once what would else be refused when the shards are there.

    Returns
    -------
    selection : Selection
    runs : tuple of SelectedRun
        The selected ones with their headers, which are read here and nowhere else before the steps.

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
    runs = read_headers(selection.selected, config)
    check_repetition_times(runs, config)
    return selection, runs


def examine_all(
    runs: Sequence[SelectedRun], config: PreprocessConfig
) -> tuple[list[Shard], dict[str, Row]]:
    """Look at all shards; return also the rows of those up to date, and those that failed."""
    shards: list[Shard] = []
    rows: dict[str, Row] = {}
    for run in runs:
        try:
            shard = examine(shard_of(run.recording, config, run.header))
        except DataError as error:
            rows[run.key] = failed_row(run.key, "looking at its files", error)
            continue
        shards.append(shard)
        if shard.record is not None:
            rows[run.key] = replace(shard.record.row, state="up to date")
    return shards, rows


def refused_rows(selection: Selection) -> dict[str, Row]:
    """Return the rows of recordings whose files cannot be used, by key."""
    return {
        item.recording.key: Row(
            item.recording.key, "failed", message="its files cannot be used", error=item.reason
        )
        for item in selection.refused
    }


def excluded_rows(selection: Selection) -> tuple[Row, ...]:
    """Return the rows of recordings that a person left out."""
    return tuple(
        Row(item.recording.key, "excluded", message=item.reason) for item in selection.excluded
    )
