"""The way over the subject's T1: EPI -> T1 rigid, T1 -> template affine and SyN."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.bold.contrast import around_brain, coarse, local_contrast, to_ants, without_holes
from preprocessing.template.mni import load_brain_mask, load_template

if TYPE_CHECKING:
    import nibabel as nib

# Finer images took twice the time and did not lower the error on simulated heads.
_T1_VOXEL_MM = 2.0
_HEAD_VOXEL_MM = 3.0
_SYN_VOXEL_MM = 4.0


def load_t1(path: Path) -> nib.Nifti1Image:
    """Open a T1-weighted image, axes near RAS, finer voxels averaged to about 2 mm.

    Raises
    ------
    DataError
        If it is no 3-D NIfTI, or its affine is singular.
    """
    import nibabel as nib

    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise DataError(
            f"the T1 cannot be read ({error})",
            where=path,
            remedy="copy the file again, or set bold.spatial_normalization to direct_epi",
        ) from None
    if values.ndim != 3 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise DataError(
            f"not a usable T1: shape {values.shape}, constant or with values that are not finite",
            where=path,
            remedy="give a whole-head T1, or set bold.spatial_normalization to direct_epi",
        )
    return nib.Nifti1Image(*_averaged(values, image.affine))


def _averaged(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks of voxels of about 2 mm: as much as the registration sees."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.maximum(1, np.rint(_T1_VOXEL_MM / zooms)).astype(int)
    kept = values.shape // factors
    blocks = values[tuple(slice(0, end) for end in kept * factors)]
    blocks = blocks.reshape([size for pair in zip(kept, factors, strict=True) for size in pair])
    to_fine = np.diag([*factors, 1.0])
    to_fine[:3, 3] = (factors - 1) / 2
    return blocks.mean(axis=(1, 3, 5)), affine @ to_fine


def over_t1(ants: Any, epi_contrast: Any, t1: nib.Nifti1Image, folder: str) -> list[str]:
    """Return the transforms EPI -> T1 -> template, in ANTs' order.

    T1 and template have one contrast: affine on whole heads, then SyN with cross-correlation on
    the local contrast of the brains. EPI and T1 are of one head: rigid, on the local contrast of
    the brains, the T1's turned round. The T1's brain is the template's, carried over by the affine
    transform. Measured on simulated heads: mean error of T1 -> template 0.7 mm (affine 1.4 mm),
    of the whole way 1.0 mm (EPI -> template affine 1.4 mm); SyN with mutual information or mean
    squares made it worse than affine.

    Parameters
    ----------
    ants : module
    epi_contrast : ANTsImage
        Local contrast of the mean EPI inside its brain mask.
    t1 : Nifti1Image
    folder : str
        Where the transforms are written.
    """
    template, mask = load_template(), load_brain_mask()
    brain = np.asarray(mask.dataobj) > 0
    head = to_ants(ants, np.asarray(template.dataobj, np.float32), template.affine)
    values = np.asarray(t1.dataobj, np.float32)
    moving_head = to_ants(ants, values, t1.affine)
    affine = ants.registration(
        coarse(ants, head, _HEAD_VOXEL_MM),
        moving_head,
        type_of_transform="Affine",
        outprefix=os.path.join(folder, "t1_affine_"),
    )["fwdtransforms"]
    t1_brain = _carried_over(ants, brain, template.affine, moving_head, affine)
    fixed = local_contrast(
        np.asarray(template.dataobj, np.float32), without_holes(brain), template.affine
    )
    warp = ants.registration(
        around_brain(ants, to_ants(ants, fixed, template.affine), _SYN_VOXEL_MM),
        to_ants(ants, local_contrast(values, t1_brain, t1.affine), t1.affine),
        type_of_transform="SyNOnly",
        initial_transform=affine[0],
        syn_metric="CC",
        syn_sampling=2,
        flow_sigma=3,
        grad_step=0.2,
        reg_iterations=(30, 15),
        outprefix=os.path.join(folder, "t1_syn_"),
    )["fwdtransforms"]
    turned_round = to_ants(ants, local_contrast(-values, t1_brain, t1.affine), t1.affine)
    rigid = ants.registration(
        coarse(ants, turned_round, _HEAD_VOXEL_MM),
        epi_contrast,
        type_of_transform="Rigid",
        outprefix=os.path.join(folder, "epi_t1_"),
    )["fwdtransforms"]
    return [*warp, *rigid]


def _carried_over(
    ants: Any, brain: np.ndarray, affine: np.ndarray, t1: Any, transforms: list[str]
) -> np.ndarray:
    """The template's brain in the T1, with a rim for what the affine transform missed."""
    from scipy.ndimage import binary_dilation

    carried = ants.apply_transforms(
        t1,
        to_ants(ants, binary_dilation(brain), affine),
        transforms,
        interpolator="nearestNeighbor",
        whichtoinvert=[True],
    )
    return without_holes(carried.numpy() > 0)
