"""The shards beside a store: which are up to date, and why the others must be computed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.dotted import dotted
from eeg2fmri_dist.config.preprocess import PreprocessConfig
from preprocessing.job.source_files import FileState, file_state, source_states
from preprocessing.quality.failure_evidence import has_evidence
from preprocessing.recordings import Recording

# Raise it when a change of the code changes what shards contain: all are then computed again.
METHOD_VERSION = 7


@dataclass(frozen=True)
class ShardPlace:
    """Where a recording's shard lies, and what decides its contents.

    Attributes
    ----------
    recording : Recording
    path : Path
        The shard.
    settings : dict
        Settings that affect results, as JSON types.
    root : Path
        Folder to which the paths of source files are relative in records.
    """

    recording: Recording
    path: Path
    settings: dict[str, Any]
    root: Path


@dataclass(frozen=True)
class Examined:
    """What a look at a shard and its sources found.

    Attributes
    ----------
    place : ShardPlace
    sources : list of FileState
        Files of the recording; with hashes as far as they are known.
    reason : str or None
        Why the shard must be computed again; None = up to date.
    record : dict
        How the shard was made, brought up to date; empty if it must be computed again.
    """

    place: ShardPlace
    sources: list[FileState]
    reason: str | None
    record: dict[str, Any]


def shard_folder(output: Path) -> Path:
    """Return the folder of the shards of a store: ``store.shards/`` beside ``store.h5``."""
    return output.with_suffix(".shards")


def record_path(shard: Path) -> Path:
    """Return the JSON file beside a shard that says how it was made."""
    return shard.with_suffix(".json")


def page_cost_path(shard: Path) -> Path:
    """Return the JSON file beside a shard that says what drawing its quality page took."""
    return shard.with_suffix(".page.json")


def shard_place(recording: Recording, config: PreprocessConfig) -> ShardPlace:
    """Return where the shard of a recording belongs."""
    path = shard_folder(config.output) / f"{recording.key}.h5"
    return ShardPlace(recording, path, settings_of(config), config.source.path)


def settings_of(config: PreprocessConfig) -> dict[str, Any]:
    """Return the settings that decide what a shard contains, as JSON types.

    Where recordings and results lie, which are selected, and where the job runs is left out.
    """
    elsewhere = {"output", "atlas", "quality", "on_error", "cluster"}
    values = config.model_dump(mode="json", exclude=elsewhere)
    for key in ("path", "layout", "eeg_files", "subjects", "sessions", "tasks", "runs", "exclude"):
        del values["source"][key]
    return values


def examine(place: ShardPlace) -> Examined:
    """Find out whether a shard is up to date.

    Files of unchanged size and time are taken for unchanged; others are hashed.

    Raises
    ------
    DataError
        If a source file cannot be looked at.
    """
    sources = _sources(place)
    record = read_record(record_path(place.path))
    if not place.path.is_file():
        return Examined(place, sources, "there is no shard yet", {})
    if not record:
        return Examined(place, sources, "there is no record of how its shard was made", {})
    reason = next(_changed_method(record, place), None)
    if reason is None:
        reason, sources = _compare_sources(record, sources, place.root)
    shard = file_state(place.path)
    if reason is None and not same_file(record["shard"], shard):
        reason = damage(place.path, record["shard"]["fingerprint"])
    if reason is None and not has_evidence(place.path, record):
        reason = "the evidence for its quality page is missing"
    if reason is not None:
        return Examined(place, sources, reason, {})
    return Examined(
        place,
        sources,
        None,
        make_record(place, sources, record["row"], record["shard"]["fingerprint"])
        | {key: record[key] for key in ("evidence",) if key in record},
    )


def make_record(
    place: ShardPlace, sources: list[FileState], row: dict[str, Any], fingerprint: str
) -> dict[str, Any]:
    """Return the record of a shard that lies in its place: how it was made and what it is like."""
    shard = file_state(place.path)
    return {
        "method": METHOD_VERSION,
        "settings": place.settings,
        "tr_s": place.recording.tr_s,
        "slice_times_s": _slice_times(place),
        "sources": [source.hashed().to_json(place.root) for source in sources],
        "shard": {"size": shard.size, "mtime_ns": shard.mtime_ns, "fingerprint": fingerprint},
        "row": row,
    }


def read_record(path: Path) -> dict[str, Any]:
    """Return a record, or an empty one where it is missing or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def same_file(entry: dict[str, Any], state: FileState) -> bool:
    """Whether a file has the size and time that a record says."""
    return (entry["size"], entry["mtime_ns"]) == (state.size, state.mtime_ns)


def damage(path: Path, fingerprint: str) -> str | None:
    """Return what is wrong with a store that was touched since its record was written.

    None = it is whole and what the record says.
    """
    from eeg2fmri_dist.store import Store, verify

    problems = verify(path)
    if problems:
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        return f"{path.name} is damaged: {problems[0]}{more}"
    if Store(path).fingerprint != fingerprint:
        return f"{path.name} was replaced by another"
    return None


def _changed_method(record: dict[str, Any], place: ShardPlace) -> Iterator[str]:
    """Reasons that lie in code and settings."""
    if record.get("method") != METHOD_VERSION:
        yield f"it was made by method version {record.get('method')}, this is {METHOD_VERSION}"
    old, new = dotted(record["settings"]), dotted(place.settings)
    old["TR of the recording"], new["TR of the recording"] = record["tr_s"], place.recording.tr_s
    old["slice times of the recording"] = record.get("slice_times_s")
    new["slice times of the recording"] = _slice_times(place)
    for key in old | new:
        if old.get(key) != new.get(key):
            yield f"{key} changed from {old.get(key)} to {new.get(key)}"


def _sources(place: ShardPlace) -> list[FileState]:
    """Files that decide what the shard contains."""
    t1 = place.recording.t1_path
    used = place.settings.get("bold", {}).get("route") == "t1" and t1 is not None
    return source_states(place.recording) + ([file_state(t1)] if used and t1 else [])


def _slice_times(place: ShardPlace) -> list[float] | None:
    """Times of the sidecar, where they decide anything."""
    used = place.settings.get("bold", {}).get("slice_timing") == "sidecar"
    return list(place.recording.slice_times_s or ()) if used else None


def _compare_sources(
    record: dict[str, Any], sources: list[FileState], root: Path
) -> tuple[str | None, list[FileState]]:
    """First change of a source file; and the files with the hashes that are known by now."""
    old = {entry["path"]: entry for entry in record["sources"]}
    compared: list[FileState] = []
    reason = None
    for source in sources:
        entry = old.pop(source.to_json(root)["path"], None)
        if entry is None:
            reason = reason or f"{source.path.name} is new"
        elif entry["size"] != source.size:
            reason = reason or f"{source.path.name} has another size"
        elif entry["mtime_ns"] == source.mtime_ns:
            source = FileState(source.path, source.size, source.mtime_ns, entry["sha256"])
        else:
            source = source.hashed()
            if source.sha256 != entry["sha256"]:
                reason = reason or f"{source.path.name} has other contents"
        compared.append(source)
    if old:
        reason = reason or f"{', '.join(old)} is no longer there"
    return reason, compared
