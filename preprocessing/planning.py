"""What the pipeline would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing import steps
from preprocessing.merging import why_merge
from preprocessing.pipeline import examine_all, recordings_of
from preprocessing.prediction import predicted_step_s, rates_of
from preprocessing.recordings import Recording
from preprocessing.shards import shard_folder
from preprocessing.sources import source_states
from preprocessing.space import as_text, bytes_needed, free_bytes
from preprocessing.summary import core_time, table


def plan(config: PreprocessConfig) -> list[str]:
    """Say what `preprocessing.pipeline.preprocess` would do.

    Returns
    -------
    list of str
        Lines: a table of the recordings, what would be computed and why, processor time, disk
        space.

    Raises
    ------
    DataError
        If no recording is found, or none can be used.
    ConfigError
        If ``output`` or ``atlas.path`` cannot be what it says.
    """
    recordings = recordings_of(config)
    examined, rows = examine_all(recordings, config)
    reasons = {item.place.recording.key: item.reason or "up to date" for item in examined}
    problems = {key: row.message for key, row in rows.items() if row.state == "failed"}
    problems |= _unusable([item.place.recording for item in examined], config)
    cells = [
        (*_described(recording, config), problems.get(key) or reasons[key])
        for recording in recordings
        for key in (recording.key,)
    ]
    lines = [
        f"{len(recordings)} {config.source.kind} recordings in {config.source.path}",
        *table(("recording", "EEG", "BOLD", "volumes", "TR (s)", "shard"), cells),
    ]
    if len(problems) == len(recordings):
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
            f"{len(problems)} of {len(recordings)} recordings cannot be used: "
            f"{', '.join(problems)} (on_error: {config.on_error})"
        )
    return lines + _work(config, recordings, stale, list(reasons))


def _work(
    config: PreprocessConfig,
    recordings: Sequence[Recording],
    stale: Sequence[Recording],
    keys: Sequence[str],
) -> list[str]:
    """What is to be computed, and what it takes."""
    why = "its shards change" if stale else why_merge(keys, config)
    needed = bytes_needed(config, stale, recordings if why else [])
    rates = rates_of(config, shard_folder(config.output))
    seconds = sum(sum(predicted_step_s(recording, config, rates).values()) for recording in stale)
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
            problems[recording.key] = f"cannot be used: {error.what}"
    return problems


def _described(recording: Recording, config: PreprocessConfig) -> tuple[str, str, str, str, str]:
    """Key, bytes of EEG and BOLD, volumes and TR of a recording, as far as they can be read."""
    try:
        *eeg, bold = source_states(recording)
        run = steps.open_run(recording, config)
    except DataError:
        return (recording.key, "?", "?", "?", "?")
    return (
        recording.key,
        as_text(sum(file.size for file in eeg)),
        as_text(bold.size),
        str(run.n_volumes),
        f"{run.tr_s:g}",
    )
