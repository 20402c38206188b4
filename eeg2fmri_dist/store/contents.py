"""How a layout and the table of recordings lie in the HDF5 file: written here, read back here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import h5py
import numpy as np

from eeg2fmri_dist.store.schema import (
    AXES,
    DESCRIPTIONS,
    FLOAT,
    FORMAT,
    FORMAT_VERSION,
    ROW_DATASETS,
    SAMPLE_DATASETS,
    Atlas,
    Layout,
    RecordingEntry,
    SourceFile,
    sources_json,
    to_json,
)

_TEXT = h5py.string_dtype("utf-8")
_RECORDING = np.dtype(
    [
        ("subject", _TEXT),
        ("session", _TEXT),
        ("run", _TEXT),
        ("tr_s", "<f8"),
        ("first_sample", "<i8"),
        ("n_samples", "<i8"),
        ("sources", _TEXT),
        ("quality", _TEXT),
        ("task", _TEXT),
    ]
)
_FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}
COMPRESSIONS = tuple(_FILTERS)


def write_layout(file: h5py.File, layout: Layout) -> None:
    """Write root attributes, mask, affine and atlases."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = FORMAT_VERSION
    file.attrs["space"] = layout.space
    file.attrs["preprocessing"] = to_json(layout.preprocessing)
    file.attrs["versions"] = to_json(layout.versions)
    file["mask"] = np.asarray(layout.mask, "u1")
    file["affine"] = np.asarray(layout.affine, "<f8")
    for name in ("mask", "affine"):
        file[name].attrs["description"] = DESCRIPTIONS[name]
    atlases = file.create_group("atlas", track_order=True)
    for name, atlas in layout.atlases.items():
        labels = atlases.create_dataset(name, data=np.asarray(atlas.labels, "<i2"))
        labels.attrs["names"] = np.array(atlas.names, dtype=object)
        labels.attrs["source"] = atlas.source
        labels.attrs["description"] = "index into the attribute `names`, from 0; axes x, y, z"


def create_rows(
    file: h5py.File, layout: Layout, n_samples: int, n_recordings: int, compression: str
) -> None:
    """Create the large data sets, empty, one chunk a row, unlimited along the first axis.

    Rows without compression have their places in the file from now on, back to back.
    """
    for name in ROW_DATASETS:
        shape = layout.row_shape(name)
        rows = file.create_dataset(
            name,
            shape=(n_samples if name in SAMPLE_DATASETS else n_recordings, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=FLOAT,
            dcpl=_with_places() if compression == "none" else None,
            **_FILTERS[compression],
        )
        for axis, label in enumerate(AXES[name]):
            rows.dims[axis].label = label
        rows.attrs["description"] = DESCRIPTIONS[name]
    file["eeg"].attrs["channel_names"] = np.array(layout.channel_names, dtype=object)
    file["eeg"].attrs["frequencies_hz"] = np.asarray(layout.frequencies_hz, "<f8")
    file["eeg"].attrs["unit"] = layout.eeg_unit


def _with_places() -> h5py.h5p.PropDCID:
    """Properties of a data set whose chunks get their places at once, and are not filled."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def write_recordings(file: h5py.File, recordings: Sequence[RecordingEntry]) -> None:
    """Write the table of recordings."""
    rows = [
        (
            entry.subject,
            entry.session,
            entry.run,
            entry.tr_s,
            entry.first_sample,
            entry.n_samples,
            sources_json(entry),
            to_json(entry.quality),
            entry.task,
        )
        for entry in recordings
    ]
    table = file.create_dataset(
        "recordings", data=np.array(rows, dtype=_RECORDING), maxshape=(None,)
    )
    table.attrs["description"] = DESCRIPTIONS["recordings"]


def write_checksums(
    file: h5py.File, checksums: Mapping[str, Sequence[int]] | Mapping[str, np.ndarray]
) -> None:
    """Write the checksums of each data set under its name."""
    for name, values in checksums.items():
        file.create_dataset(f"checksums/{name}", data=np.asarray(values, "<u4"), maxshape=(None,))


def read_layout(file: h5py.File) -> Layout:
    """Read what `write_layout` and `create_rows` wrote."""
    eeg = file["eeg"].attrs
    return Layout(
        channel_names=tuple(_text(name) for name in eeg["channel_names"]),
        frequencies_hz=np.asarray(eeg["frequencies_hz"], dtype=np.float64),
        eeg_unit=_text(eeg["unit"]),
        mask=file["mask"][()].astype(bool),
        affine=file["affine"][()].astype(np.float64),
        atlases={name: _read_atlas(labels) for name, labels in file["atlas"].items()},
        preprocessing=json.loads(file.attrs["preprocessing"]),
        versions=json.loads(file.attrs["versions"]),
        space=_text(file.attrs["space"]),
    )


def read_recordings(file: h5py.File) -> tuple[RecordingEntry, ...]:
    """Read the table of recordings; stores of before have no column for the task."""
    table = file["recordings"][()]
    tasks = table["task"] if "task" in table.dtype.names else [""] * len(table)
    return tuple(
        RecordingEntry(
            subject=_text(row["subject"]),
            session=_text(row["session"]),
            run=_text(row["run"]),
            tr_s=float(row["tr_s"]),
            first_sample=int(row["first_sample"]),
            n_samples=int(row["n_samples"]),
            sources=tuple(SourceFile(**source) for source in json.loads(row["sources"])),
            quality=_read_quality(row["quality"]),
            task=_text(task),
        )
        for row, task in zip(table, tasks, strict=True)
    )


def compression_of(file: h5py.File) -> str:
    """Return the name of the compression that the store was written with."""
    return str(file["bold"].compression or "none")


def _read_atlas(labels: h5py.Dataset) -> Atlas:
    return Atlas(
        labels=labels[()].astype(np.int16),
        names=tuple(_text(name) for name in labels.attrs["names"]),
        source=_text(labels.attrs["source"]),
    )


def _read_quality(text: str | bytes) -> dict[str, float | str | bool]:
    """JSON has no NaN: it was written as null."""
    return {
        name: float("nan") if value is None else value for name, value in json.loads(text).items()
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
