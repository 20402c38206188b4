"""A run of volumes in template space as one NIfTI file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eeg2fmri_dist.files import replacing


def write_run(path: Path, volumes: np.ndarray, affine: np.ndarray, tr_s: float) -> None:
    """Write volumes as a 4-D NIfTI in template space that is whole or not there.

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``.
    volumes : ndarray of shape (volume, x, y, z)
        Written in their own type.
    affine : ndarray of shape (4, 4)
        Voxel index -> MNI mm (RAS).
    tr_s : float
        Repetition time in s.
    """
    import nibabel as nib

    image = nib.Nifti1Image(np.moveaxis(volumes, 0, -1), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    image.set_sform(image.affine, code="mni")
    image.set_qform(image.affine, code="mni")
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else ".nii"
    with replacing(path) as temporary:
        # nibabel chooses the format by the file name.
        named = temporary.with_name(temporary.name + suffix)
        image.to_filename(named)
        named.rename(temporary)
