"""BrainVision recordings: header, binary and markers, with the damage that they may have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg, Marker, channel_type

if TYPE_CHECKING:
    import mne

_SAMPLE_TYPES = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}


def open_brainvision(header_path: Path) -> ContinuousEeg:
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
    ContinuousEeg

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
    return ContinuousEeg(
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
