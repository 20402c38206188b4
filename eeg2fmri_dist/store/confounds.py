"""Nuisance regressors beside the samples: an addition that readers may ignore.

``/confounds`` (sample, confound) has a checksum of its own. The fingerprint leaves it out, so that
readers that do not know it find the fingerprint they compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import h5py
import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.store.schema import DESCRIPTIONS, FLOAT, Confounds, crc

_NAME = "confounds"


def check_confounds(confounds: Confounds, n_samples: int, where: str) -> None:
    """Refuse regressors that do not fit the samples.

    Raises
    ------
    DataError
        If the shape is not (sample, name).
    """
    expected = (n_samples, len(confounds.names))
    if confounds.values.shape != expected:
        raise DataError(
            f"confounds have shape {confounds.values.shape}, expected {expected}", where=where
        )


def write_confounds(file: h5py.File, confounds: Confounds) -> None:
    """Write the regressors and their checksum."""
    values = np.ascontiguousarray(confounds.values, FLOAT)
    dataset = file.create_dataset(_NAME, data=values)
    for axis, label in enumerate(("sample", "confound")):
        dataset.dims[axis].label = label
    dataset.attrs["names"] = np.array(confounds.names, dtype=object)
    dataset.attrs["description"] = DESCRIPTIONS[_NAME]
    file.create_dataset(f"checksums/{_NAME}", data=np.array([crc(values)], "<u4"))


def read_confounds(file: h5py.File) -> Confounds | None:
    """Read what `write_confounds` wrote; None where a store has none."""
    if _NAME not in file:
        return None
    dataset = file[_NAME]
    names = [name.decode() if isinstance(name, bytes) else name for name in dataset.attrs["names"]]
    return Confounds(tuple(names), dataset[()].astype(np.float32))


def join_confounds(parts: Iterable[tuple[Confounds | None, int]]) -> Confounds | None:
    """Join the regressors of several stores, given with their numbers of samples.

    What one of them lacks is NaN in its samples; None where none has any.
    """
    found = list(parts)
    names = tuple(dict.fromkeys(name for part, _ in found if part for name in part.names))
    if not names:
        return None
    values = np.full((sum(n_samples for _, n_samples in found), len(names)), np.nan, np.float32)
    first = 0
    for part, n_samples in found:
        if part is not None:
            columns = [names.index(name) for name in part.names]
            values[first : first + n_samples, columns] = part.values
        first += n_samples
    return Confounds(names, values)


def damaged_confounds(file: h5py.File) -> Iterator[str]:
    """Say what is wrong with the regressors of a store; nothing where it has none."""
    confounds = read_confounds(file)
    if confounds is None:
        return
    if len(confounds.values) != len(file["bold"]):
        yield f"/{_NAME} has {len(confounds.values)} rows, /bold has {len(file['bold'])}"
    if crc(np.ascontiguousarray(confounds.values, FLOAT)) != file[f"checksums/{_NAME}"][0]:
        yield f"/{_NAME} does not match its checksum"
