"""MNI152 template, brain mask and the grid of the store.

`python -m preprocessing.template fetch` gets the atlas that may not come with the package.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError

if TYPE_CHECKING:
    import nibabel as nib

SPACE = "MNI152NLin6Asym"
TEMPLATE_SHAPE = (91, 109, 91)
_T1, _MASK = "MNI152_T1_2mm.nii.gz", "MNI152_T1_2mm_brain_mask.nii.gz"
_SHA256 = {
    _T1: "1616e98b88c0b213096e015d12f7a114648851989215493ba5799c76c19fd1f5",
    _MASK: "5e12ef73afaf8e2bf17ab855a82ca13bf36473ae11f0888c4c8978eb63a1a51b",
}


def load_template() -> nib.Nifti1Image:
    """Return the 2 mm MNI152 T1 template, (91, 109, 91), RAS."""
    return _load_packaged(_T1)


def load_brain_mask() -> nib.Nifti1Image:
    """Return the template's brain mask, (91, 109, 91), RAS, 0 or 1."""
    return _load_packaged(_MASK)


def grid_affine(grid: tuple[int, int, int]) -> np.ndarray:
    """Return the affine of a grid that spans the template's field of view, edges aligned.

    Parameters
    ----------
    grid : tuple of int
        Voxels along x, y and z.

    Returns
    -------
    ndarray of shape (4, 4)
        Voxel index -> MNI mm (RAS).
    """
    template = load_template()
    spacing_mm = template.affine[0, 0]
    extent_mm = np.array(template.shape) * spacing_mm
    edge_mm = template.affine[:3, 3] - spacing_mm / 2
    voxel_mm = extent_mm / np.array(grid)
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = edge_mm + voxel_mm / 2
    return affine


@functools.cache
def _load_packaged(name: str) -> nib.Nifti1Image:
    import gzip
    import hashlib

    import nibabel as nib

    packaged = resources.files("preprocessing.template.data") / name
    content = packaged.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise DataError(
            "the packaged template differs from the one that was tested",
            where=str(packaged),
            remedy="restore the file from the repository",
        )
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    return nib.as_closest_canonical(image)
