"""The files that a recording consists of, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.file_formats import files_beside
from preprocessing.recordings import Recording


@dataclass(frozen=True)
class FileState:
    """What a file was like when it was looked at.

    Attributes
    ----------
    path : Path
    size : int
        In bytes.
    mtime_ns : int
        Time of the last change.
    sha256 : str or None
        Hash of the contents (hex), None where they were not read.
    """

    path: Path
    size: int
    mtime_ns: int
    sha256: str | None = None

    def hashed(self) -> FileState:
        """Return the state with its hash; the file is read only where it is not known yet."""
        return self if self.sha256 else replace(self, sha256=hash_file(self.path))

    def relative_to(self, root: Path) -> FileState:
        """Return the state with the path relative to `root`."""
        return replace(self, path=Path(os.path.relpath(self.path, root)))

    def to_json(self, root: Path) -> dict[str, Any]:
        """Return the state as JSON types, its path relative to `root`."""
        return {**vars(self), "path": os.path.relpath(self.path, root)}


def source_states(recording: Recording) -> list[FileState]:
    """Return the state of each file that the recording is computed from, without hashes.

    Raises
    ------
    DataError
        If a file cannot be looked at.
    """
    return [file_state(path) for path in [*_eeg_files(recording.eeg_path), recording.bold_path]]


def eeg_bytes(sources: Iterable[FileState]) -> int:
    """Return the size of the EEG files among those of a recording; all others are images."""
    return sum(file.size for file in sources if not file.path.name.endswith((".nii", ".nii.gz")))


def file_state(path: Path) -> FileState:
    """Return size and time of a file, without its hash.

    Raises
    ------
    DataError
        If it cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return FileState(path, status.st_size, status.st_mtime_ns)


def hash_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _eeg_files(header_path: Path) -> list[Path]:
    """An EEG file or header, the files that it names, and those beside it."""
    if header_path.suffix.lower() != ".vhdr":
        return [header_path, *files_beside(header_path)]
    try:
        header = header_path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise _unreadable(header_path, error) from error
    names = re.findall(r"^(?:DataFile|MarkerFile)=(.*?)\s*$", header, flags=re.MULTILINE | re.I)
    named = [header_path.parent / name.replace("$b", header_path.stem) for name in names]
    beside = [header_path.with_suffix(suffix) for suffix in (".eeg", ".dat", ".vmrk")]
    beside += files_beside(header_path)
    return [header_path, *sorted({path for path in (*named, *beside) if path.is_file()})]


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot be read ({error.strerror})",
        where=path,
        remedy="check that the file is there and that you may read it",
    )
