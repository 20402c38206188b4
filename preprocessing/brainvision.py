"""BrainVision recordings, opened read-only and read block by block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError

if TYPE_CHECKING:
    import mne

_SAMPLE_TYPES = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}
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
class BrainVision:
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


def open_brainvision(header_path: Path) -> BrainVision:
    """Open a BrainVision recording without writing anything.

    Header links (``DataFile=``, ``MarkerFile=``) that lead nowhere, as after renaming, are taken
    as the files beside the header that carry its own name (``.eeg`` or ``.dat``, ``.vmrk``).
    Header and markers are parsed by MNE-Python.

    Parameters
    ----------
    header_path : Path
        The ``.vhdr`` file.

    Returns
    -------
    BrainVision

    Raises
    ------
    DataError
        If the header cannot be read, or if the binary is missing or truncated.
    """
    settings = _read_settings(header_path)
    link = settings.get("datafile")
    if not link:
        raise DataError(
            "the EEG header cannot be read (it names no DataFile, as a BrainVision header does)",
            where=header_path,
            remedy="give the .vhdr file of a BrainVision recording; export it again if it is "
            "damaged",
        )
    data_path = _linked_file(header_path, link, (".eeg", ".dat"))
    if data_path is None:
        raise DataError(
            f"the EEG binary is missing: neither {link!r} (the header's DataFile) nor "
            f"{header_path.stem}.eeg or .dat is there",
            where=header_path,
            remedy="copy the binary beside the header, under the header's name",
        )
    raw = _parse_with_mne(header_path, data_path)
    markers = _read_markers(header_path, settings.get("markerfile"), raw.info["sfreq"])
    _check_complete(data_path, settings, raw, markers)
    multiplexed = settings.get("dataorientation", "").upper() == "MULTIPLEXED"
    sample_type = _sample_type(settings) if multiplexed else None
    return BrainVision(
        header_path=header_path,
        data_path=data_path,
        sfreq_hz=float(raw.info["sfreq"]),
        n_samples=int(raw.n_times),
        channel_names=tuple(raw.ch_names),
        channel_types=tuple(map(channel_type, raw.ch_names, raw.get_channel_types())),
        markers=markers,
        _raw=raw,
        _multiplexed_type=sample_type,
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


def _read_settings(header_path: Path) -> dict[str, str]:
    """``Key=value`` lines of the header's first sections, keys in lower case."""
    try:
        content = header_path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the EEG header cannot be read ({error.strerror})",
            where=header_path,
            remedy="check that the file is there and readable",
        ) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    sections = re.split(r"^\[(?:Channel Infos|Comment)\]", text, flags=re.M | re.I)[0]
    lines = re.findall(r"^([A-Za-z]+)=(.*?)\s*$", sections, flags=re.M)
    return {key.lower(): value for key, value in lines}


def _linked_file(header_path: Path, link: str | None, suffixes: tuple[str, ...]) -> Path | None:
    """File that a header names, or else the one beside the header with its own name."""
    candidates = [header_path.with_suffix(suffix) for suffix in suffixes]
    if link:
        # The format lets $b stand for the header's own name.
        candidates.insert(0, header_path.parent / link.replace("$b", header_path.stem))
    return next((path for path in candidates if path.is_file()), None)


def _parse_with_mne(header_path: Path, data_path: Path) -> mne.io.BaseRaw:
    """Header as MNE reads it, bound to the right binary."""
    import mne

    links = {"data_fname": str(data_path.absolute()), "marker_fname": False}
    try:
        return mne.io.read_raw_brainvision(
            header_path, overrides=links, preload=False, verbose="error"
        )
    except Exception as error:  # a broken header makes the parser fail in any way
        raise _unreadable(header_path, "header", error) from error


def _read_markers(header_path: Path, link: str | None, sfreq_hz: float) -> tuple[Marker, ...]:
    """Markers of the recording, none where it has no marker file."""
    import mne

    marker_path = _linked_file(header_path, link, (".vmrk",))
    if marker_path is None:
        return ()
    try:
        # Not through the recording: it drops markers behind its end, which show a truncation.
        found = mne.read_annotations(marker_path, sfreq=sfreq_hz)
    except Exception as error:  # a broken marker file makes the parser fail in any way
        raise _unreadable(marker_path, "marker file", error) from error
    samples = np.rint(found.onset * sfreq_hz).astype(int)
    return tuple(
        Marker(int(sample), str(description))
        for sample, description in zip(samples, found.description, strict=True)
    )


def _unreadable(path: Path, what: str, error: Exception) -> DataError:
    """Error for a file that MNE cannot parse."""
    return DataError(
        f"the BrainVision {what} cannot be read ({type(error).__name__}: {error})",
        where=path,
        remedy="compare it with the original recording; export it again if it is damaged",
    )


def _sample_type(settings: dict[str, str]) -> np.dtype | None:
    """Type of a sample in the binary; None for text."""
    if settings.get("dataformat", "").upper() != "BINARY":
        return None
    name = _SAMPLE_TYPES.get(settings.get("binaryformat", "").upper())
    return np.dtype(name) if name else None


def _check_complete(
    data_path: Path, settings: dict[str, str], raw: mne.io.BaseRaw, markers: tuple[Marker, ...]
) -> None:
    """Refuse a binary that ends early."""
    last_marker = max((marker.sample + 1 for marker in markers), default=0)
    announced = settings.get("datapoints", "")
    needed = max(last_marker, int(announced) if announced.isdigit() else 0)
    broken_off = ""
    sample_type = _sample_type(settings)
    if sample_type is not None:
        sample_bytes = sample_type.itemsize * len(raw.ch_names)
        remainder = data_path.stat().st_size % sample_bytes
        if remainder:
            broken_off = f" and {remainder} of the {sample_bytes} bytes of one more"
            needed = max(needed, raw.n_times + 1)
    if needed > raw.n_times:
        raise DataError(
            f"the EEG binary is truncated: it holds {raw.n_times} samples per channel"
            f"{broken_off}, at least {needed} are needed",
            where=data_path,
            remedy="copy the file again from the original recording",
        )
