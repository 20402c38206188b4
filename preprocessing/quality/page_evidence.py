"""What the quality page of a recording is drawn from, kept beside its shard."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import replacing

# Raise it when the fields below change: shards without this evidence are computed again.
VERSION = 1


@dataclass(frozen=True)
class Evidence:
    """Small pictures and courses of a recording.

    Attributes
    ----------
    facts : dict
        JSON: ``key``, ``tr_s``, ``n_volumes`` (in the store), ``dummy_scans``, ``channel_names``,
        ``eeg_unit``, ``origin``, ``confound_names``, ``carpet_rows`` (of gray matter, white matter
        and CSF), ``motion`` and ``slice_timing`` (settings), ``bad_channels`` (name -> reason) and
        ``cleaning`` (``gradient_volumes``, ``heartbeats``, ``reference``, ``spatial_filter``,
        ``residual_db``: list of band, median and worst channel).
    quality : dict
        The numbers that lie in the store's quality column.
    epi : ndarray of uint8, (91, 109, 91)
        Mean EPI on the template, 255 = bright; 0 outside its field of view.
    epi_mask : ndarray of bool, (91, 109, 91)
        Brain found in the EPI, on the template.
    tsnr : ndarray of float16, (x, y, z)
        On the store's grid, 0 outside the mask.
    grid_affine : ndarray of shape (4, 4)
        Store's grid -> MNI mm.
    carpet : ndarray of int8, (row, volume)
        As `bold_signal.carpet` returns it.
    confounds : ndarray of float32, (volume, name)
    brightness : ndarray of float32, (volume,)
        Of the run's first volumes, in percent of the steady state (dropped ones are in it).
    frequencies_hz : ndarray of shape (frequency,)
    spectrum : ndarray of float32, (channel, frequency)
        Median power over volumes, in the unit of the store.
    power_course : ndarray of float32, (channel, volume)
        log10 of the power of all frequencies.
    marker_spacing_s : ndarray of shape (volume - 1,)
        Distances of the volume markers; of all volumes of the run.
    cleaning_hz, spectrum_before, spectrum_after
        Spectra in dB (channel, frequency) as recorded and as used; empty where they are the same.
    """

    facts: dict[str, Any]
    quality: dict[str, float | str | bool]
    epi: np.ndarray
    epi_mask: np.ndarray
    tsnr: np.ndarray
    grid_affine: np.ndarray
    carpet: np.ndarray
    confounds: np.ndarray
    brightness: np.ndarray
    frequencies_hz: np.ndarray
    spectrum: np.ndarray
    power_course: np.ndarray
    marker_spacing_s: np.ndarray
    cleaning_hz: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spectrum_before: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    spectrum_after: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def confound(self, name: str) -> np.ndarray:
        """Return one confound (volume,)."""
        column: np.ndarray = self.confounds[:, self.facts["confound_names"].index(name)]
        return column


_ARRAYS = tuple(entry.name for entry in fields(Evidence) if entry.name not in ("facts", "quality"))


def as_bytes(epi: np.ndarray) -> np.ndarray:
    """Return brightness 1 to 255, 0 where nothing was scanned (NaN)."""
    seen = np.isfinite(epi)
    values = epi[seen]
    top = float(np.percentile(values, 99.7)) if values.size else 1.0
    picture = np.zeros(epi.shape, np.uint8)
    picture[seen] = np.clip(1 + 254 * values / max(top, 1e-6), 1, 255)
    return picture


def evidence_path(shard: Path) -> Path:
    """Return the file beside a shard that its quality page is drawn from."""
    return shard.with_suffix(".evidence.npz")


def has_evidence(shard: Path, record: Mapping[str, Any]) -> bool:
    """Whether the evidence that a shard's record speaks of is there, in this version."""
    version = record.get("evidence")
    return version is None or (version == VERSION and evidence_path(shard).is_file())


def save_evidence(path: Path, evidence: Evidence) -> None:
    """Write evidence, whole or not at all."""
    from eeg2fmri_dist.store.schema import to_json

    text = to_json({"version": VERSION, "facts": evidence.facts, "quality": evidence.quality})
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays = {name: getattr(evidence, name) for name in _ARRAYS}
        np.savez_compressed(file, allow_pickle=False, texts=np.array(text), **arrays)


def load_evidence(path: Path) -> Evidence:
    """Read what `save_evidence` wrote.

    Raises
    ------
    DataError
        If the file is missing, damaged or of another version.
    """
    with _opened(path) as archive:
        texts = _texts(archive)
        arrays = {name: archive[name] for name in _ARRAYS}
    return Evidence(facts=texts["facts"], quality=texts["quality"], **arrays)


def load_summary(path: Path) -> tuple[dict[str, Any], dict[str, float | str | bool]]:
    """Read facts and numbers alone.

    Raises
    ------
    DataError
        As `load_evidence`.
    """
    with _opened(path) as archive:
        texts = _texts(archive)
    return texts["facts"], texts["quality"]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"the evidence for a quality page cannot be used ({error})",
            where=path,
            remedy="remove it and run the same command again: its shard is computed again",
        ) from None


def _texts(archive: Any) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads(str(archive["texts"]))
    if texts["version"] != VERSION:
        raise ValueError(f"version {texts['version']}, this is {VERSION}")
    return texts
