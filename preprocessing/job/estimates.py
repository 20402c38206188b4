"""What recordings will cost, from what their like have cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from preprocessing.job import steps
from preprocessing.job.shards import read_record, settings_of
from preprocessing.job.source_files import source_states
from preprocessing.recordings import Recording

# Processor seconds of one simulated recording of NODDI's size (300 volumes, 0.42 GB of EEG), used
# until recordings of the user's own have been measured.
_REFERENCE_REGISTRATION_S = {"affine": 5.0, "syn": 10.0}
_REFERENCE_EEG_S_PER_GB = 6.5
_REFERENCE_SHARD_S_PER_VOLUME = 0.018
_REFERENCE_PAGE_S = 2.0


@dataclass(frozen=True)
class Rates:
    """Processor seconds of each step for its unit of work.

    Attributes
    ----------
    registration_s : float
        Of one recording.
    eeg_s_per_byte : float
        Of a byte of EEG files.
    shard_s_per_volume : float
        Of a volume kept.
    page_s : float
        Of one recording's quality page, 0 where none is drawn.
    n_measured : int
        Recordings that were measured; 0 = the suite's own reference.
    """

    registration_s: float
    eeg_s_per_byte: float
    shard_s_per_volume: float
    page_s: float
    n_measured: int

    def step_s(self, eeg_bytes: int, n_volumes: int) -> dict[str, float]:
        """Return the processor seconds of each step of a recording."""
        return {
            "registration": self.registration_s,
            "EEG features": self.eeg_s_per_byte * eeg_bytes,
            "shard": self.shard_s_per_volume * n_volumes,
        }


def rates_of(config: PreprocessConfig, folder: Path) -> Rates:
    """Return the rates of recordings already computed with these settings, else the reference's.

    Parameters
    ----------
    config : PreprocessConfig
    folder : Path
        Where their shards lie.
    """
    settings = settings_of(config)
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]
    measured = [
        record
        for record in records
        if record.get("settings") == settings and record.get("row", {}).get("costs")
    ]
    if not measured:
        return Rates(
            _REFERENCE_REGISTRATION_S[config.bold.transform],
            _REFERENCE_EEG_S_PER_GB / 1e9,
            _REFERENCE_SHARD_S_PER_VOLUME,
            _page_s(config, folder),
            n_measured=0,
        )
    eeg_bytes = sum(sum(file["size"] for file in record["sources"][:-1]) for record in measured)
    n_volumes = sum(record["row"]["n_volumes"] for record in measured)
    return Rates(
        _cpu_s(measured, "registration") / len(measured),
        _cpu_s(measured, "EEG features") / max(1, eeg_bytes),
        _cpu_s(measured, "shard") / max(1, n_volumes),
        _page_s(config, folder),
        len(measured),
    )


def predicted_step_s(
    recording: Recording, config: PreprocessConfig, rates: Rates
) -> dict[str, float]:
    """Return the processor seconds that each step of a recording will take.

    Raises
    ------
    DataError
        If the recording cannot be opened.
    """
    *eeg, _bold = source_states(recording)
    n_volumes = steps.open_run(recording, config).n_volumes - config.drop_volumes
    return rates.step_s(sum(file.size for file in eeg), n_volumes)


def _page_s(config: PreprocessConfig, folder: Path) -> float:
    if not config.quality:
        return 0.0
    drawn = [read_record(path) for path in folder.glob("*.page.json")]
    return float(np.mean([cost["cpu_s"] for cost in drawn if cost] or [_REFERENCE_PAGE_S]))


def _cpu_s(records: Iterable[dict[str, Any]], step: str) -> float:
    return float(sum(record["row"]["costs"][step]["cpu_s"] for record in records))
