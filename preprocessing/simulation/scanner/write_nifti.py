"""Writing NIfTI files whose bytes depend on their content alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from eeg2fmri_dist.files.atomic import replacing


def write_nifti(
    path: Path, data: np.ndarray, affine: np.ndarray, tr_s: float | None = None
) -> None:
    """Write a ``.nii.gz`` in scanner space; gzip's time stamp and file name are left out."""
    import nibabel as nib

    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = "simulated"
    if tr_s is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    with (
        replacing(path) as temporary,
        temporary.open("wb") as plain,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=plain, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())
