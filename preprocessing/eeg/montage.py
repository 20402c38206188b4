"""Channels of a recording as a model knows them: found by name, or interpolated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.artifacts.spatial_filters import interpolation
from preprocessing.eeg.continuous import ContinuousEeg

# 10-20 system before 1991 -> 10-10 system.
_RENAMED = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# What EDF files put around a channel's name: "EEG Fp1-REF", "Fp1-A2", "C3..".
_AROUND = re.compile(r"^(?:eeg[\s_-]+)?(.+?)(?:[-_](?:ref|le|re|avg|cm|[am][12]))?\.*$")


@dataclass(frozen=True)
class Match:
    """How a recording serves the channels of a model.

    Attributes
    ----------
    wanted : tuple of str
        Channels of the model, in its order.
    found : dict of str to int
        Those that the recording has, and their positions in the file.
    renamed : dict of str to str
        Those that it has under another spelling, and which.
    interpolated : tuple of str
        Those that it lacks.
    unused : tuple of str
        Scalp channels that the model does not know.
    """

    wanted: tuple[str, ...]
    found: dict[str, int]
    renamed: dict[str, str]
    interpolated: tuple[str, ...]
    unused: tuple[str, ...]


def match_channels(eeg: ContinuousEeg, wanted: Sequence[str], max_interpolated: float) -> Match:
    """Find the channels of a model in a recording.

    Names agree in capitals or not (``FP1`` is ``Fp1``); T3, T4, T5 and T6 of the old 10-20 system
    are T7, T8, P7 and P8; ``EEG Fp1-REF``, ``Fp1-A2`` and ``Fp1..`` of EDF files are Fp1. A name
    that fits two channels is not guessed.

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording, of any format.
    wanted : sequence of str
        Channels of the model.
    max_interpolated : float
        Share of them that may be missing.

    Returns
    -------
    Match

    Raises
    ------
    DataError
        If more are missing; all are named.
    """
    scalp = [at for at, kind in enumerate(eeg.channel_types) if kind == "eeg"]
    names = {at: eeg.channel_names[at] for at in scalp}
    positions = {name: _find(name, names) for name in wanted}
    found = {name: at for name, at in positions.items() if at is not None}
    missing = tuple(name for name in wanted if name not in found)
    if len(missing) > max_interpolated * len(wanted) or not found:
        raise _too_few(eeg, wanted, missing, max_interpolated)
    return Match(
        wanted=tuple(wanted),
        found=found,
        renamed={name: names[at] for name, at in found.items() if names[at] != name},
        interpolated=missing,
        unused=tuple(name for at, name in names.items() if at not in found.values()),
    )


def remount(eeg: ContinuousEeg, match: Match) -> ContinuousEeg:
    """Present a recording with the channels of a model; its ECG comes behind them.

    Channels that are missing are interpolated by spherical splines through the others
    (`spatial_filters.interpolation`).

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording, of any format.
    match : Match
        Of `match_channels`.

    Returns
    -------
    ContinuousEeg
        Nothing of its samples is in memory; blocks are mixed as they are read.

    Raises
    ------
    DataError
        If the place of a channel on the head is not known, where one must be interpolated.
    """
    heart = [at for at, kind in enumerate(eeg.channel_types) if kind == "ecg"][:1]
    n_wanted = len(match.wanted)
    mixing = np.eye(n_wanted + len(heart), dtype=np.float32)
    if match.interpolated:
        mixing[:n_wanted, :n_wanted] = _interpolation(eeg, match)
    kept = [at for at, name in enumerate(match.wanted) if name in match.found]
    kept += range(n_wanted, len(mixing))
    return _Remounted(
        header_path=eeg.header_path,
        data_path=eeg.data_path,
        sfreq_hz=eeg.sfreq_hz,
        n_samples=eeg.n_samples,
        channel_names=(*match.wanted, *(eeg.channel_names[at] for at in heart)),
        channel_types=("eeg",) * n_wanted + ("ecg",) * len(heart),
        markers=eeg.markers,
        _raw=eeg._raw,
        _multiplexed_type=eeg._multiplexed_type,
        source=eeg,
        positions=np.array([*match.found.values(), *heart]),
        mixing=mixing[:, kept],
    )


@dataclass(frozen=True)
class _Remounted(ContinuousEeg):
    """A recording whose channels are mixed from channels of its file.

    Attributes
    ----------
    source : ContinuousEeg
        The recording as it is.
    positions : array (source channel,) of int
        Channels of the file that are used.
    mixing : array (channel, source channel) of float32
    """

    source: ContinuousEeg
    positions: np.ndarray
    mixing: np.ndarray

    @property
    def limits_uv(self) -> np.ndarray:
        """Limits of the channels that are taken as they are; infinite for mixed ones."""
        alone = np.count_nonzero(self.mixing, axis=1) == 1
        own = self.source.limits_uv[self.positions[np.abs(self.mixing).argmax(axis=1)]]
        return np.where(alone, own, np.inf)

    def read(self, start: int, stop: int, channels: np.ndarray) -> np.ndarray:
        """Samples (channel, sample) of some channels in microvolts."""
        mixing = self.mixing[channels]
        used = np.flatnonzero(mixing.any(axis=0))
        block = self.source.read(start, stop, self.positions[used])
        mixing = mixing[:, used]
        if np.array_equal(mixing, np.eye(len(mixing))):
            return block
        return mixing @ block


def _interpolation(eeg: ContinuousEeg, match: Match) -> np.ndarray:
    try:
        return interpolation(match.wanted, match.interpolated, eeg.header_path)
    except DataError:
        raise DataError(
            f"channels of the model are missing ({', '.join(match.interpolated)}) and cannot be "
            "interpolated: not all channels have names of the 10-05 system",
            where=eeg.header_path,
            remedy="use a recording with this montage",
        ) from None


def _find(name: str, names: dict[int, str]) -> int | None:
    """Position of a channel: by its very name, else by the one name that means the same."""
    for same in (lambda other: other == name, lambda other: _plain(other) == _plain(name)):
        positions = [at for at, other in names.items() if same(other)]
        if positions:
            return positions[0] if len(positions) == 1 else None
    return None


def _plain(name: str) -> str:
    found = _AROUND.match(name.strip().lower())
    plain = found[1] if found else name.lower()
    return _RENAMED.get(plain, plain)


def _too_few(
    eeg: ContinuousEeg, wanted: Sequence[str], missing: Sequence[str], max_interpolated: float
) -> DataError:
    return DataError(
        f"{len(missing)} of the {len(wanted)} channels that the model was trained on are "
        f"missing: {', '.join(missing)}; the recording has {', '.join(eeg.channel_names)}",
        where=eeg.header_path,
        remedy=f"use a recording with this montage (up to {max_interpolated:.0%} of the channels "
        "are interpolated: interpolate=...); if it has other names for it, give the channels the "
        "model's names in the header; or train on the channels that both have (eeg.drop_channels)",
    )
