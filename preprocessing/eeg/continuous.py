"""An EEG recording of any format, opened read-only and read block by block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mne

_MICROVOLTS_PER_VOLT = 1e6


@dataclass(frozen=True)
class Marker:
    """A marker of the recording.

    Attributes
    ----------
    sample : int
        Position, counted from 0.
    description : str
        Type and description, such as ``Response/R128`` or ``Stimulus/S  1``.
    """

    sample: int
    description: str


@dataclass(frozen=True)
class ContinuousEeg:
    """An opened recording; nothing of its samples is in memory.

    Attributes
    ----------
    header_path, data_path : Path
        Header and the binary that belongs to it.
    sfreq_hz : float
        Sampling rate in Hz.
    n_samples : int
        Samples per channel.
    channel_names, channel_types : tuple of str
        In the order of the file; the types are MNE's (``eeg``, ``ecg``, ``eog``, ``misc`` ...).
    markers : tuple of Marker
        In the order of the file, without the first "New Segment".
    """

    header_path: Path
    data_path: Path
    sfreq_hz: float
    n_samples: int
    channel_names: tuple[str, ...]
    channel_types: tuple[str, ...]
    markers: tuple[Marker, ...]
    _raw: mne.io.BaseRaw
    _multiplexed_type: np.dtype | None

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.n_samples / self.sfreq_hz

    @property
    def limits_uv(self) -> np.ndarray:
        """Microvolts (channel,) next to the largest that the file can hold; infinite for floats."""
        if self._multiplexed_type is None or self._multiplexed_type.kind != "i":
            return np.full(len(self.channel_names), np.inf)
        largest = np.iinfo(self._multiplexed_type).max
        return (1 - 1e-6) * (largest - 1) * self._scales_uv(np.arange(len(self.channel_names)))

    def _scales_uv(self, channels: np.ndarray) -> np.ndarray:
        """Microvolts per integer step."""
        infos = [self._raw.info["chs"][channel] for channel in channels]
        return np.array([info["cal"] * info["range"] for info in infos]) * _MICROVOLTS_PER_VOLT

    def read(self, start: int, stop: int, channels: np.ndarray) -> np.ndarray:
        """Samples of some channels.

        Parameters
        ----------
        start, stop : int
            Range of samples, ``0 <= start < stop <= n_samples``.
        channels : array of int
            Positions of the channels in the file.

        Returns
        -------
        array (channel, sample) of float32
            In microvolts.
        """
        if self._multiplexed_type is None:
            volts = self._raw.get_data(channels, start, stop)
            return (volts * _MICROVOLTS_PER_VOLT).astype(np.float32)
        # Plain reads, not a memory map: mapped pages would count as memory of the process and
        # grow with the recording.
        n_channels, dtype = len(self.channel_names), self._multiplexed_type
        block = np.fromfile(
            self.data_path,
            dtype,
            count=(stop - start) * n_channels,
            offset=start * n_channels * dtype.itemsize,
        ).reshape(-1, n_channels)
        scale = self._scales_uv(channels)
        return np.multiply(
            block.T[channels], scale[:, None].astype(np.float32), dtype=np.float32, order="C"
        )


def channel_type(name: str, stated: str) -> str:
    """Type of a channel; most formats state none beyond the unit, so names tell the heart's.

    Parameters
    ----------
    name : str
    stated : str
        Type as MNE read it.

    Returns
    -------
    str
        ``ecg``, ``eog`` or ``emg`` for what was stated ``eeg`` and is named so, else `stated`.
    """
    found = re.match(r"(ecg|ekg)|([hv]?eog)|(emg)", name, re.IGNORECASE)
    if stated != "eeg" or not found or found.lastindex is None:
        return stated
    return ("ecg", "eog", "emg")[found.lastindex - 1]
