"""The store: one chunked HDF5 file of samples, described in `schema`, format version 1.

Plain h5py, MATLAB or Julia read it too; `python -m eeg2fmri_dist.store info FILE` describes one.
"""

from eeg2fmri_dist.store.reading import Store
from eeg2fmri_dist.store.schema import (
    FORMAT,
    FORMAT_VERSION,
    Atlas,
    Confounds,
    Layout,
    LeftOut,
    RecordingEntry,
    SourceFile,
)
from eeg2fmri_dist.store.verifying import verify
from eeg2fmri_dist.store.writing import merge, write_shard

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Atlas",
    "Confounds",
    "Layout",
    "LeftOut",
    "RecordingEntry",
    "SourceFile",
    "Store",
    "merge",
    "verify",
    "write_shard",
]
