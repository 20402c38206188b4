"""The JSON file beside a shard: how the shard was made, and what it is like."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eeg2fmri_dist.files.made_from import read_record
from preprocessing.job.source_files import FileState
from preprocessing.job.summary import Row


@dataclass(frozen=True)
class ShardFile:
    """The file of a shard when its record was written.

    Attributes
    ----------
    size : int
        In bytes.
    mtime_ns : int
        Time of the last change.
    fingerprint : str
        Of its contents, as stores have one.
    """

    size: int
    mtime_ns: int
    fingerprint: str


@dataclass(frozen=True)
class ShardRecord:
    """How a shard was made.

    Attributes
    ----------
    method : int
        Version of the code's method.
    settings : dict
        Those that decide what the shard contains, as JSON types.
    tr_s : float or None
        Repetition time that the recording's layout gave, in s.
    slice_times_s : list of float or None
        Of the sidecar, where they decided anything.
    sources : tuple of FileState
        Files of the recording with their hashes; paths relative to the data set's folder.
    shard : ShardFile
    row : Row
        What became of the recording.
    evidence : int or None
        Version of the evidence for the quality page; None where none was kept.
    """

    method: int
    settings: dict[str, Any]
    tr_s: float | None
    slice_times_s: list[float] | None
    sources: tuple[FileState, ...]
    shard: ShardFile
    row: Row
    evidence: int | None = None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ShardRecord:
        """Return the record that `to_json` gave, of this version or an earlier one.

        Raises
        ------
        KeyError, TypeError
            If it is none.
        """
        return cls(
            method=content["method"],
            settings=content["settings"],
            tr_s=content["tr_s"],
            slice_times_s=content.get("slice_times_s"),
            sources=tuple(
                FileState(**{**entry, "path": Path(entry["path"])}) for entry in content["sources"]
            ),
            shard=ShardFile(**content["shard"]),
            row=Row(**content["row"]),
            evidence=content.get("evidence"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        content = asdict(self)
        content["sources"] = [{**entry, "path": str(entry["path"])} for entry in content["sources"]]
        if self.evidence is None:
            del content["evidence"]
        return content


def record_path(shard: Path) -> Path:
    """Return the JSON file beside a shard that says how it was made."""
    return shard.with_suffix(".json")


def read_shard_record(path: Path) -> ShardRecord | None:
    """Return the record of a shard; None where there is none, or another kind of file."""
    try:
        return ShardRecord.from_json(read_record(path))
    except (KeyError, TypeError):
        return None
