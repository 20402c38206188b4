"""What a store holds: its datasets, the objects that describe them, checksums and fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eeg2fmri_dist.config import with_current_names
from eeg2fmri_dist.config.preprocess import PreprocessConfig

FORMAT = "eeg2fmri_dist store"
FORMAT_VERSION = 1

FLOAT = np.dtype("<f4")

# One row (= one chunk) per sample, and one per recording.
SAMPLE_DATASETS = ("eeg", "bold")
STATISTICS_DATASETS = ("bold_mean", "bold_std")
ROW_DATASETS = SAMPLE_DATASETS + STATISTICS_DATASETS

AXES = {
    "eeg": ("sample", "channel", "frequency"),
    "bold": ("sample", "x", "y", "z"),
    "bold_mean": ("recording", "x", "y", "z"),
    "bold_std": ("recording", "x", "y", "z"),
}
DESCRIPTIONS = {
    "eeg": "EEG power spectrum of each sample (one sample = one TR = one volume)",
    "bold": "preprocessed BOLD volume of each sample, intensity as scanned, zero outside /mask",
    "bold_mean": "mean over the samples of each recording, voxel by voxel",
    "bold_std": "standard deviation (divisor n) over the samples of each recording",
    "mask": "brain mask: 1 inside, 0 outside; axes x, y, z",
    "affine": "voxel index (from 0) -> mm in the space named by the attribute `space`, RAS+",
    "recordings": "one row a recording; its samples are [first_sample, first_sample + n_samples), "
    "counted from 0; sources and quality are JSON",
    "confounds": "nuisance regressors of each sample, named by the attribute `names`; NaN where a "
    "recording has none; optional, not part of the fingerprint",
    "left_out": "recordings that were excluded or failed, and why; optional, not part of the "
    "fingerprint",
    "checksums": "CRC-32 of the content of each row (float32, little-endian) of the data set "
    "of that name; of the whole for small data sets",
}


@dataclass(frozen=True, eq=False)
class Atlas:
    """Region labels on the store's grid.

    Attributes
    ----------
    labels : ndarray of int16, (x, y, z)
        Index into `names`; 0 is the background.
    names : tuple of str
        ``names[0]`` is "Background".
    source : str
        Where the labels come from.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    source: str


@dataclass(frozen=True, eq=False)
class Confounds:
    """Nuisance regressors, such as the head's motion.

    Attributes
    ----------
    names : tuple of str
        With their units, such as "trans_x_mm".
    values : ndarray of float32, (sample, name)
    """

    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class SourceFile:
    """A file that a recording was computed from: path, size in bytes, SHA-256 (hex)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class LeftOut:
    """A recording that a store does not hold.

    Attributes
    ----------
    recording : str
        Its key, such as "sub-32_run-01".
    state : str
        "excluded" (by a person) or "failed".
    reason : str
    """

    recording: str
    state: str
    reason: str


@dataclass(frozen=True)
class RecordingEntry:
    """A recording's row in the table of recordings.

    Attributes
    ----------
    subject, session, run, task : str
        Entities without their prefix; empty where there is none.
    tr_s : float
        Repetition time in s.
    first_sample, n_samples : int
        Its samples are ``[first_sample, first_sample + n_samples)`` of the store.
    sources : tuple of SourceFile
        Files it was computed from.
    quality : dict
        Numbers and flags by which a person accepts or rejects it.
    """

    subject: str
    session: str
    run: str
    tr_s: float
    first_sample: int
    n_samples: int
    sources: tuple[SourceFile, ...] = ()
    quality: dict[str, float | str | bool] = field(default_factory=dict)
    task: str = ""

    @property
    def key(self) -> str:
        """Name in messages and file names, such as ``sub-32_run-01``."""
        parts = [
            ("sub", self.subject),
            ("ses", self.session),
            ("task", self.task),
            ("run", self.run),
        ]
        return "_".join(f"{name}-{value}" for name, value in parts if value)


@dataclass(frozen=True, eq=False)
class Layout:
    """What all recordings of a store have in common.

    Attributes
    ----------
    channel_names : tuple of str
        EEG channels, in the order of axis 1 of ``/eeg``.
    frequencies_hz : ndarray, (frequency,)
        Center of each frequency bin or band in Hz.
    eeg_unit : str
        Unit of ``/eeg``, such as "uV^2".
    mask : ndarray of bool, (x, y, z)
        Brain mask; its shape is the grid.
    affine : ndarray, (4, 4)
        Voxel index -> mm in `space`, RAS+.
    atlases : dict of str to Atlas
        Region labels by name.
    preprocessing : dict
        Settings that decided the values, as JSON types, as the store holds them.
    versions : dict of str to str
        Software that computed the values.
    space : str
        Name of the space, such as "MNI152NLin6Asym".
    """

    channel_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    eeg_unit: str
    mask: np.ndarray
    affine: np.ndarray
    atlases: dict[str, Atlas]
    preprocessing: dict[str, Any]
    versions: dict[str, str]
    space: str

    @property
    def settings(self) -> dict[str, Any]:
        """`preprocessing` by today's keys, whatever they were called when the store was made."""
        return with_current_names(PreprocessConfig, self.preprocessing)[0]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z = self.mask.shape
        return x, y, z

    def row_shape(self, dataset: str) -> tuple[int, ...]:
        """Shape of one row of a data set of `ROW_DATASETS`."""
        if dataset == "eeg":
            return (len(self.channel_names), len(self.frequencies_hz))
        return self.grid


def crc(array: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).data)


def text_crc(text: str) -> int:
    """Return the CRC-32 of a text in UTF-8."""
    return zlib.crc32(text.encode())


def to_json(value: Any) -> str:
    """Return canonical JSON: sorted keys, NumPy scalars as numbers, NaN and infinity as null."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def sources_json(entry: RecordingEntry) -> str:
    """Return the source files of a recording as JSON."""
    return to_json([vars(source) for source in entry.sources])


def small_checksums(layout: Layout, recordings: Iterable[RecordingEntry]) -> dict[str, list[int]]:
    """Return the checksums of everything but the large data sets, by name.

    ``recordings`` has one per recording, the others one in all.
    """
    atlas_sources = {name: atlas.source for name, atlas in layout.atlases.items()}
    texts = [_described(layout), layout.preprocessing, layout.versions, atlas_sources]
    checksums = {
        "layout": [text_crc(to_json(texts))],
        "mask": [crc(layout.mask.astype("u1"))],
        "affine": [crc(layout.affine.astype("<f8"))],
        "recordings": [text_crc(_row_text(entry)) for entry in recordings],
    }
    for name, atlas in layout.atlases.items():
        checksums[f"atlas/{name}"] = [crc(atlas.labels.astype("<i2"))]
    return checksums


def fingerprint(
    layout: Layout,
    recordings: Sequence[RecordingEntry],
    row_checksums: Mapping[str, Sequence[int] | np.ndarray],
) -> str:
    """Return the SHA-256 (hex) of what a store contains.

    It depends on values, channels, frequencies, grid, atlases and recordings; not on the order in
    the file, compression, where source files lay, or software versions.

    Parameters
    ----------
    layout : Layout
    recordings : sequence of RecordingEntry
    row_checksums : mapping of str to sequence of int
        Checksums of the rows of each data set of `ROW_DATASETS`.
    """
    digest = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION}\n".encode())
    digest.update(to_json(_described(layout)).encode())
    digest.update(layout.mask.astype("u1").tobytes())
    digest.update(layout.affine.astype("<f8").tobytes())
    for name in sorted(layout.atlases):
        digest.update(layout.atlases[name].labels.astype("<i2").tobytes())
    for entry in recordings:
        contents = [[source.size, source.sha256] for source in entry.sources]
        digest.update(to_json([_identity(entry), contents, entry.quality]).encode())
    for name in ROW_DATASETS:
        digest.update(np.asarray(row_checksums[name], "<u4").tobytes())
    return digest.hexdigest()


def _described(layout: Layout) -> dict[str, Any]:
    """The parts of a layout that are text or short lists of numbers."""
    return {
        "channel_names": layout.channel_names,
        "frequencies_hz": [float(frequency) for frequency in layout.frequencies_hz],
        "eeg_unit": layout.eeg_unit,
        "grid": layout.grid,
        "space": layout.space,
        "atlases": {name: atlas.names for name, atlas in layout.atlases.items()},
    }


def _identity(entry: RecordingEntry) -> list[Any]:
    identity = [
        entry.subject,
        entry.session,
        entry.run,
        entry.tr_s,
        entry.first_sample,
        entry.n_samples,
    ]
    # Stores of before had no tasks, and keep their fingerprint.
    return [*identity, entry.task] if entry.task else identity


def _row_text(entry: RecordingEntry) -> str:
    """All that the table of recordings says about one, as text."""
    return "\n".join([to_json(_identity(entry)), sources_json(entry), to_json(entry.quality)])


def _plain(value: Any) -> Any:
    """Turn a value into one that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
