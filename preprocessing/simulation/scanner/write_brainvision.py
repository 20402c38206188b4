"""Writing BrainVision recordings block by block, so that long ones never lie in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.files.atomic import replacing, write_text


@dataclass(frozen=True)
class Marker:
    """An event: type and description as BrainVision names them, sample counted from 0."""

    kind: str
    description: str
    sample: int


@dataclass(frozen=True)
class Layout:
    """What a BrainVision header says.

    Attributes
    ----------
    channels : sequence of str
    sfreq_hz : int
    resolution_uv : float
        Value of one integer step.
    binary_suffix : str
        ``.eeg`` as recorded, ``.dat`` as exported by Analyzer.
    stated_stem : str or None
        Stem that the header states for its binary and marker files, where it is not their own:
        files renamed by hand have such stale links.
    """

    channels: Sequence[str]
    sfreq_hz: int
    resolution_uv: float
    binary_suffix: str = ".eeg"
    stated_stem: str | None = None


def write_brainvision(
    header: Path, layout: Layout, blocks: Iterable[np.ndarray], markers: Sequence[Marker]
) -> None:
    """Write ``.vhdr``, ``.vmrk`` and the int16 binary; the header comes last.

    Parameters
    ----------
    header : Path
        The ``.vhdr``; the other files get its stem.
    layout : Layout
    blocks : iterable of ndarray of shape (sample, channel), int16
        The recording in integer steps, piece by piece.
    markers : sequence of Marker
    """
    with (
        replacing(header.with_suffix(layout.binary_suffix)) as temporary,
        temporary.open("wb") as binary,
    ):
        for block in blocks:
            binary.write(np.ascontiguousarray(block, dtype="<i2").data)
    stem = layout.stated_stem or header.stem
    write_text(header.with_suffix(".vmrk"), _marker_text(stem + layout.binary_suffix, markers))
    write_text(header, _header_text(stem, layout))


def _header_text(stem: str, layout: Layout) -> str:
    channels = "\n".join(
        f"Ch{number}={name},,{layout.resolution_uv:g},µV"
        for number, name in enumerate(layout.channels, start=1)
    )
    return f"""\
Brain Vision Data Exchange Header File Version 1.0
; Simulated data

[Common Infos]
Codepage=UTF-8
DataFile={stem}{layout.binary_suffix}
MarkerFile={stem}.vmrk
DataFormat=BINARY
; Data orientation: MULTIPLEXED=ch1,pt1, ch2,pt1 ...
DataOrientation=MULTIPLEXED
NumberOfChannels={len(layout.channels)}
; Sampling interval in microseconds
SamplingInterval={1e6 / layout.sfreq_hz:.12g}

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
; Each entry: Ch<Channel number>=<Name>,<Reference channel name>,<Resolution in "Unit">,<Unit>
{channels}
"""


def _marker_text(data_file: str, markers: Sequence[Marker]) -> str:
    ordered = sorted(markers, key=lambda marker: marker.sample)
    lines = "\n".join(
        f"Mk{number}={marker.kind},{marker.description},{marker.sample + 1},1,0"
        for number, marker in enumerate(ordered, start=1)
    )
    return f"""\
Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={data_file}

[Marker Infos]
; Each entry: Mk<Marker number>=<Type>,<Description>,<Position in data points>,
; <Size in data points>,<Channel number (0 = marker is related to all channels)>
{lines}
"""
