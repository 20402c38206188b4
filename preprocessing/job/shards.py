"""The shards beside a store: which are up to date, and why the others must be computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.files.made_from import differences, read_record
from preprocessing.job.selected_runs import RunHeader
from preprocessing.job.shard_record import ShardFile, ShardRecord, read_shard_record, record_path
from preprocessing.job.source_files import FileState, file_state, source_states
from preprocessing.job.summary import Row
from preprocessing.quality.page_evidence import has_evidence
from preprocessing.recordings import Recording

# Raise it when a change of the code changes what shards contain: all are then computed again.
METHOD_VERSION = 8


@dataclass(frozen=True)
class Shard:
    """A recording's part of the store: where it lies, what decides it, what a look at it found.

    Attributes
    ----------
    recording : Recording
    path : Path
        The shard.
    settings : dict
        Settings that affect results, as JSON types.
    root : Path
        Folder to which the paths of source files are relative in records.
    header : RunHeader or None
        Of the recording's BOLD run; None where it cannot be used.
    sources : tuple of FileState
        Files of the recording; with hashes as far as they are known.
    reason : str or None
        Why the shard must be computed (again); None = up to date.
    record : ShardRecord or None
        How the shard was made, brought up to date; None if it must be computed (again).
    """

    recording: Recording
    path: Path
    settings: dict[str, Any]
    root: Path
    header: RunHeader | None = None
    sources: tuple[FileState, ...] = ()
    reason: str | None = "it has not been looked at"
    record: ShardRecord | None = None

    @property
    def key(self) -> str:
        """Name of the recording."""
        return self.recording.key


def shard_folder(output: Path) -> Path:
    """Return the folder of the shards of a store: ``store.shards/`` beside ``store.h5``."""
    return output.with_suffix(".shards")


def quality_folder(output: Path) -> Path:
    """Return the folder of the pages of a store: ``store.quality/`` beside ``store.h5``."""
    return output.with_suffix(".quality")


def page_cost_path(shard: Path) -> Path:
    """Return the JSON file beside a shard that says what drawing its quality page took."""
    return shard.with_suffix(".page.json")


def shard_of(
    recording: Recording, config: PreprocessConfig, header: RunHeader | None = None
) -> Shard:
    """Return the shard of a recording as it should be, not yet looked at."""
    path = shard_folder(config.output) / f"{recording.key}.h5"
    return Shard(recording, path, settings_of(config), config.source.path, header)


def settings_of(config: PreprocessConfig) -> dict[str, Any]:
    """Return the settings that decide what a shard contains, as JSON types.

    Where recordings and results lie, which are selected, and where the job runs is left out.
    """
    elsewhere = {"output", "atlas", "quality", "on_error", "cluster"}
    values = config.model_dump(mode="json", exclude=elsewhere)
    for key in ("path", "layout", "eeg_files", "subjects", "sessions", "tasks", "runs", "exclude"):
        del values["source"][key]
    return values


def examine(shard: Shard) -> Shard:
    """Find out whether a shard is up to date.

    Files of unchanged size and time are taken for unchanged; others are hashed.

    Returns
    -------
    Shard
        With its sources, and with either a reason to compute it or its record.

    Raises
    ------
    DataError
        If a source file cannot be looked at.
    """
    shard = replace(shard, sources=tuple(_sources(shard)), record=None)
    stored = read_record(record_path(shard.path))
    record = read_shard_record(record_path(shard.path))
    if not shard.path.is_file():
        return replace(shard, reason="there is no shard yet")
    if record is None:
        return replace(shard, reason="there is no record of how its shard was made")
    reason = next(_changed_method(stored, shard), None)
    if reason is None:
        reason, sources = _compare_sources(stored, list(shard.sources), shard.root)
        shard = replace(shard, sources=tuple(sources))
    if reason is None and not same_file(stored["shard"], file_state(shard.path)):
        reason = damage(shard.path, record.shard.fingerprint)
    if reason is None and not has_evidence(shard.path, stored):
        reason = "the evidence for its quality page is missing"
    if reason is not None:
        return replace(shard, reason=reason)
    record = make_record(shard, record.row, record.shard.fingerprint, record.evidence)
    return replace(shard, reason=None, record=record)


def make_record(
    shard: Shard, row: Row, fingerprint: str, evidence: int | None = None
) -> ShardRecord:
    """Return the record of a shard that lies in its place, made from its sources as they are.

    Parameters
    ----------
    shard : Shard
        Sources whose hashes are not known are read.
    row : Row
        What became of the recording.
    fingerprint : str
        Of the shard's contents.
    evidence : int or None
        Version of the evidence for the quality page, where such was kept.
    """
    file = file_state(shard.path)
    return ShardRecord(
        method=METHOD_VERSION,
        settings=shard.settings,
        tr_s=shard.recording.tr_s,
        slice_times_s=_slice_times(shard),
        sources=tuple(source.hashed().relative_to(shard.root) for source in shard.sources),
        shard=ShardFile(file.size, file.mtime_ns, fingerprint),
        row=row,
        evidence=evidence,
    )


def keep_record(shard: Shard) -> None:
    """Write the record of a shard that is up to date, where the one on the disk is behind it.

    So a file that was touched is hashed once, not in every run.
    """
    path = record_path(shard.path)
    if shard.record is not None and read_record(path) != shard.record.to_json():
        write_json(path, shard.record.to_json())


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


def _changed_method(record: dict[str, Any], shard: Shard) -> Iterator[str]:
    """Reasons that lie in code and settings."""
    if record.get("method") != METHOD_VERSION:
        yield f"it was made by method version {record.get('method')}, this is {METHOD_VERSION}"
    times = "slice times of the recording"
    old = {"TR of the recording": record["tr_s"], times: record.get("slice_times_s")}
    new = {"TR of the recording": shard.recording.tr_s, times: _slice_times(shard)}
    yield from map(str, differences(record["settings"] | old, shard.settings | new))


def _sources(shard: Shard) -> list[FileState]:
    """Files that decide what the shard contains."""
    t1 = shard.recording.t1_path
    used = shard.settings.get("bold", {}).get("spatial_normalization") == "t1w" and t1 is not None
    return source_states(shard.recording) + ([file_state(t1)] if used and t1 else [])


def _slice_times(shard: Shard) -> list[float] | None:
    """Times of the sidecar, where they decide anything."""
    used = shard.settings.get("bold", {}).get("slice_timing") == "sidecar"
    return list(shard.recording.slice_times_s or ()) if used else None


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
