"""What stores must have in common to become one, and what keeps them apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eeg2fmri_dist.config.names.dotted import dotted
from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.store import contents
from eeg2fmri_dist.store.reading import open_checked
from eeg2fmri_dist.store.schema import Layout, RecordingEntry, crc

# Where recordings come from and how their volumes are marked changes nothing in what they hold.
_MAY_DIFFER = (
    "source.name",
    "source.eeg",
    "source.task",
    "source.tr_s",
    "eeg.marker",
    "eeg.first_volume",
)
_TR_TOLERANCE = 1e-3


def common_index(sources: Sequence[Path]) -> tuple[Layout, str, list[RecordingEntry]]:
    """What stores have in common, and their recordings in order.

    Parameters
    ----------
    sources : sequence of Path
        At least one.

    Returns
    -------
    layout : Layout
        With the versions of all; settings that may differ and do are left out.
    compression : str
    recordings : list of RecordingEntry
        Numbered as in a store of all of them.

    Raises
    ------
    StoreError
        If one is damaged or differs in what all must share (named, with both values), if
        repetition times differ, or if a recording comes twice.
    """
    first, compression, _ = _read_index(sources[0])
    layouts: list[Layout] = []
    recordings: dict[str, RecordingEntry] = {}
    places: dict[str, Path] = {}
    n_samples = 0
    for path in sources:
        layout, here, entries = _read_index(path)
        difference = _difference(first, layout)
        if here != compression:
            difference = f"compression is {here!r}, not {compression!r}"
        if difference:
            raise _misfit(path, sources[0], difference)
        layouts.append(layout)
        for entry in entries:
            if entry.key in recordings:
                raise StoreError(
                    f"{entry.key} is in {places[entry.key].name} already",
                    where=path,
                    remedy="a recording can be in a store once: leave one of the stores out",
                )
            _check_tr(entry, next(iter(recordings.values()), entry), path, sources[0])
            recordings[entry.key] = dataclasses.replace(entry, first_sample=n_samples)
            n_samples += entry.n_samples
            places[entry.key] = path
    return _joined(layouts), compression, list(recordings.values())


def _read_index(path: Path) -> tuple[Layout, str, tuple[RecordingEntry, ...]]:
    with open_checked(path) as file:
        return (
            contents.read_layout(file),
            contents.compression_of(file),
            contents.read_recordings(file),
        )


def _misfit(path: Path, first: Path, difference: str) -> StoreError:
    return StoreError(
        f"does not fit {first.name}: {difference}",
        where=path,
        remedy="preprocess these recordings again with one config",
    )


def _check_tr(entry: RecordingEntry, known: RecordingEntry, path: Path, first: Path) -> None:
    """Refuse another repetition time: samples of a store are one TR apart."""
    if not math.isclose(entry.tr_s, known.tr_s, rel_tol=_TR_TOLERANCE):
        raise _misfit(
            path, first, f"TR of {entry.key} is {entry.tr_s:g} s, of {known.key} {known.tr_s:g} s"
        )


def _difference(layout: Layout, other: Layout) -> str | None:
    """Name the first part that keeps two layouts out of one store; versions may differ."""
    ours, theirs = _parts(layout), _parts(other)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            return (
                f"{name} differ ({_short(theirs.get(name))} here, {_short(ours.get(name))} there)"
            )
    return None


def _parts(layout: Layout) -> dict[str, Any]:
    """What must be the same in all stores, by name."""
    return {
        "channel names": layout.channel_names,
        "frequencies": layout.frequencies_hz.tolist(),
        "EEG units": layout.eeg_unit,
        "spaces": layout.space,
        "grids": layout.grid,
        "masks": _digest(layout.mask),
        "affines": layout.affine.tolist(),
        **{
            f"labels of atlas {name!r}": [atlas.names, _digest(atlas.labels)]
            for name, atlas in layout.atlases.items()
        },
        **{
            f"preprocessing settings {name}": value
            for name, value in dotted(layout.settings).items()
            if name not in _MAY_DIFFER
        },
    }


def _joined(layouts: Sequence[Layout]) -> Layout:
    """The layout of a store of all of them."""
    versions: dict[str, set[str]] = {}
    for layout in layouts:
        for package, version in layout.versions.items():
            versions.setdefault(package, set()).update(version.split(", "))
    settings = layouts[0].settings
    for name in _MAY_DIFFER:
        values = [dotted(layout.settings).get(name) for layout in layouts]
        if any(value != values[0] for value in values):
            section, key = name.split(".")
            rest = {k: value for k, value in settings[section].items() if k != key}
            settings = {**settings, section: rest}
    return dataclasses.replace(
        layouts[0],
        preprocessing=settings,
        versions={package: ", ".join(sorted(found)) for package, found in versions.items()},
    )


def _digest(array: np.ndarray) -> str:
    return f"CRC-32 {crc(array):08x}"


def _short(part: Any) -> str:
    text = "none" if part is None else str(part)
    return text if len(text) <= 200 else f"{text[:200]}..."
