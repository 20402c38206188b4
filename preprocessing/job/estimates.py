"""What recordings will cost, from what their like have cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.files.made_from import read_record
from preprocessing.job.shard_record import ShardRecord, read_shard_record
from preprocessing.job.shards import Shard, settings_of
from preprocessing.job.source_files import eeg_bytes

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

    def step_s(self, n_eeg_bytes: int, n_volumes: int) -> dict[str, float]:
        """Return the processor seconds of each step of a recording."""
        return {
            "registration": self.registration_s,
            "EEG features": self.eeg_s_per_byte * n_eeg_bytes,
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
    records = [read_shard_record(path) for path in sorted(folder.glob("*.json"))]
    measured = [
        record
        for record in records
        if record is not None and record.settings == settings and record.row.costs
    ]
    if not measured:
        return Rates(
            _REFERENCE_REGISTRATION_S[config.bold.transform],
            _REFERENCE_EEG_S_PER_GB / 1e9,
            _REFERENCE_SHARD_S_PER_VOLUME,
            _page_s(config, folder),
            n_measured=0,
        )
    n_eeg_bytes = sum(eeg_bytes(record.sources) for record in measured)
    n_volumes = sum(record.row.n_volumes or 0 for record in measured)
    return Rates(
        _cpu_s(measured, "registration") / len(measured),
        _cpu_s(measured, "EEG features") / max(1, n_eeg_bytes),
        _cpu_s(measured, "shard") / max(1, n_volumes),
        _page_s(config, folder),
        len(measured),
    )


def predicted_step_s(shard: Shard, rates: Rates) -> dict[str, float]:
    """Return the processor seconds that each step of a recording will take.

    Those of a recording whose BOLD header cannot be used will take none.
    """
    if shard.header is None:
        return dict.fromkeys(rates.step_s(0, 0), 0.0)
    return rates.step_s(eeg_bytes(shard.sources), shard.header.n_kept)


def _page_s(config: PreprocessConfig, folder: Path) -> float:
    if not config.quality:
        return 0.0
    drawn = [read_record(path) for path in folder.glob("*.page.json")]
    return float(np.mean([cost["cpu_s"] for cost in drawn if cost] or [_REFERENCE_PAGE_S]))


def _cpu_s(records: Iterable[ShardRecord], step: str) -> float:
    return float(sum(record.row.costs[step]["cpu_s"] for record in records))
