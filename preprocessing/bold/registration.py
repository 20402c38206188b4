"""Mean EPI -> MNI152: affine, then SyN where a gate accepts it. The only importer of ants."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.preprocess import BoldConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.bold.contrast import (
    BACKGROUND,
    around_brain,
    coarse,
    local_contrast,
    to_ants,
    without_holes,
)
from preprocessing.template.mni import load_brain_mask, load_template

if TYPE_CHECKING:
    import ants
    import nibabel as nib

# The metric looks at the brain and a rim, where the contrast of its border is.
_METRIC_RIM_VOXELS = 3
# A template finer than the EPI would cost time and let SyN follow noise.
_AFFINE_VOXEL_MM = 3.0
_SYN_VOXEL_MM = 4.0
# Measured on heads with a known map: smaller gains can go with a larger registration error.
_LEAST_DICE_GAIN = 0.01
_LEAST_CORRELATION_GAIN = 1.05
_LARGEST_DICE_LOSS = 0.02
# ITK takes no NaN as the value outside an image.
_NOT_SCANNED = -1e9


@dataclass(frozen=True)
class Registration:
    """Where in the EPI each brain voxel of the template lies.

    Attributes
    ----------
    native_mm : ndarray of shape (voxel, 3), float32
        Scanner mm (RAS) of the template's brain voxels, in the order of ``numpy.nonzero``.
    quality : dict
        ``transform`` (affine, syn or t1), ``dice_affine``, ``mi_affine``, ``correlation_affine``
        (of local contrast inside the brain) and the same of syn and t1 where they were tried,
        ``jacobian_min``, ``jacobian_max``, ``coverage`` (share of the brain inside the EPI).
    mean_epi, epi_mask : ndarray of shape (x, y, z), float32 and bool
        What was registered, on the grid of the run: mean volume and the brain found in it.
    warped_epi, warped_mask : ndarray of shape (91, 109, 91), float32 and bool
        The same on the template, to be looked at; the EPI is NaN outside its field of view.
    """

    native_mm: np.ndarray
    quality: dict[str, float | str | bool]
    mean_epi: np.ndarray
    epi_mask: np.ndarray
    warped_epi: np.ndarray
    warped_mask: np.ndarray


class GateError(DataError):
    """A registration that is too bad to be used.

    Attributes
    ----------
    registration : Registration or None
        What was refused, for a picture; it stays in the process that made it.
    """

    registration: Registration | None = None


@dataclass(frozen=True)
class _Candidate:
    """A transform with what the gate looks at."""

    transforms: list[str]
    dice: float
    mutual_information: float
    correlation: float
    coverage: float
    jacobian_min: float = 1.0
    jacobian_max: float = 1.0


@dataclass(frozen=True)
class _Images:
    """Local contrast of template and EPI, on which both stages work, and their masks."""

    fixed: ants.ANTsImage
    metric_mask: ants.ANTsImage
    brain: ants.ANTsImage
    moving: ants.ANTsImage
    moving_mask: ants.ANTsImage


def register(
    mean_epi: np.ndarray,
    affine: np.ndarray,
    config: BoldConfig,
    t1: nib.Nifti1Image | None = None,
) -> Registration:
    """Register the mean EPI of a run with the template.

    The transform is estimated on the local contrast of the masked EPI and of the template's brain,
    turned round (T1 -> T2*-like), because a full head fails on real EPI; it is meant to be applied
    to unmasked volumes. SyN is kept where it raises mutual information, clearly raises the overlap
    of masks and the correlation of contrasts, and folds nothing; otherwise affine is kept and the
    quality says so. With a T1 the way over it is tried first (see `anatomical.over_t1`).

    Parameters
    ----------
    mean_epi : ndarray of shape (x, y, z)
        Mean of the run.
    affine : ndarray of shape (4, 4)
        Voxel index -> scanner mm (RAS).
    config : BoldConfig
        Kind of transform, seed, smallest overlap.
    t1 : Nifti1Image, optional
        The subject's anatomy, in the scanner's coordinates as the EPI is; given where the way over
        it is wanted.

    Raises
    ------
    GateError
        If masks overlap by less than `config.min_dice`.
    DataError
        If no brain is found.
    """
    ants = _import_ants(config.seed)
    images = _prepare(ants, mean_epi, affine)
    with tempfile.TemporaryDirectory() as folder:
        chosen = by_affine = _affine(ants, images, folder)
        by_t1 = None if t1 is None else _over_t1(ants, images, t1, folder)
        by_syn = None
        if by_t1 is not None and _t1_fits(by_t1, by_affine):
            chosen = by_t1
        elif config.transform == "syn":
            by_syn = _syn(ants, images, by_affine, folder)
            if _improves(by_syn, by_affine):
                chosen = by_syn
        quality = _quality(by_affine, by_syn, by_t1, chosen)
        registration = Registration(
            _native_points(ants, chosen.transforms),
            quality,
            np.asarray(mean_epi, np.float32),
            images.moving_mask.numpy() > 0,
            *_on_template(ants, images, mean_epi, affine, chosen.transforms),
        )
    _check_overlap(registration, config)
    return registration


def _check_overlap(registration: Registration, config: BoldConfig) -> None:
    dice = float(registration.quality["dice"])
    if dice >= config.min_dice:
        return
    error = GateError(
        f"registration failed its gate: the EPI's brain mask overlaps the template's by "
        f"{dice:.3f} (Dice), at least {config.min_dice} is asked for",
        remedy="look at the mean EPI; if it is a whole brain in a plausible orientation, "
        "lower bold.min_dice, otherwise leave the recording out",
    )
    error.registration = registration
    raise error


def _import_ants(seed: int) -> Any:
    # ITK reads this when it is loaded; one recording per core, one thread per recording.
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    import ants
    import ants.config

    # `random_seed=` of ants.registration is ignored; without a seed results differ between runs.
    if hasattr(ants.config, "_random_seed"):
        ants.config._random_seed = seed + 1
    return ants


def _prepare(ants: Any, mean_epi: np.ndarray, affine: np.ndarray) -> _Images:
    from scipy.ndimage import binary_dilation

    template, mask = load_template(), load_brain_mask()
    brain = np.asarray(mask.dataobj) > 0
    t1 = np.asarray(template.dataobj, dtype=np.float32)
    rim = binary_dilation(brain, iterations=_METRIC_RIM_VOXELS)
    # The template's mask has holes where the ventricles are; those of an EPI are bright.
    whole = without_holes(brain)
    epi_mask = _epi_mask(mean_epi, affine)
    return _Images(
        fixed=to_ants(ants, local_contrast(-t1, whole, template.affine), template.affine),
        metric_mask=to_ants(ants, rim, template.affine),
        brain=to_ants(ants, brain, template.affine),
        moving=to_ants(ants, local_contrast(mean_epi, epi_mask, affine), affine),
        moving_mask=to_ants(ants, epi_mask, affine),
    )


def _epi_mask(mean_epi: np.ndarray, affine: np.ndarray) -> np.ndarray:
    import nibabel as nib
    from nilearn.masking import compute_epi_mask

    image: nib.Nifti1Image = nib.Nifti1Image(mean_epi, affine)
    try:
        mask = np.asarray(compute_epi_mask(image).dataobj) > 0
    except (ValueError, TypeError) as error:
        mask, reason = np.zeros(0, bool), str(error)
    else:
        reason = "the mask is empty"
    if not mask.any():
        raise DataError(
            f"no brain found in the mean EPI ({reason})",
            remedy="look at the BOLD run; leave the recording out if it holds no brain",
        )
    return mask


def _affine(ants: Any, images: _Images, folder: str) -> _Candidate:
    result = ants.registration(
        coarse(ants, images.fixed, _AFFINE_VOXEL_MM),
        images.moving,
        type_of_transform="Affine",
        # Sharp images have local optima some millimeters apart on real EPI: only the last, short
        # level sees them.
        aff_shrink_factors=(4, 4, 3, 2, 2, 1),
        aff_smoothing_sigmas=(6, 4, 3, 2, 1, 0),
        aff_iterations=(500, 300, 300, 200, 100, 10),
        outprefix=os.path.join(folder, "affine_"),
    )
    return _examine(ants, images, result["fwdtransforms"])


def _syn(ants: Any, images: _Images, start: _Candidate, folder: str) -> _Candidate:
    fixed = around_brain(ants, images.fixed, _SYN_VOXEL_MM)
    result = ants.registration(
        fixed,
        images.moving,
        type_of_transform="SyNOnly",
        initial_transform=start.transforms[0],
        # Wide smoothing: an EPI has too little contrast for a finer field to be true. Small steps:
        # each update is scaled to the step's length, so large ones never come to rest.
        flow_sigma=6,
        grad_step=0.1,
        reg_iterations=(40, 20),
        outprefix=os.path.join(folder, "syn_"),
    )
    return _examine(ants, images, result["fwdtransforms"], _jacobian(ants, images, fixed, result))


def _over_t1(ants: Any, images: _Images, t1: nib.Nifti1Image, folder: str) -> _Candidate:
    from preprocessing.bold.anatomical import over_t1

    transforms = over_t1(ants, images.moving, t1, folder)
    fixed = around_brain(ants, images.fixed, _SYN_VOXEL_MM)
    jacobian = _jacobian(ants, images, fixed, {"fwdtransforms": transforms})
    return _examine(ants, images, transforms, jacobian)


def _jacobian(
    ants: Any, images: _Images, fixed: ants.ANTsImage, result: dict[str, Any]
) -> tuple[float, float]:
    """Smallest and largest local volume change of a warp inside the brain."""
    warp = result["fwdtransforms"][0]
    jacobian = ants.create_jacobian_determinant_image(fixed, warp, do_log=False).numpy()
    inside = jacobian[around_brain(ants, images.brain, _SYN_VOXEL_MM).numpy() > 0.5]
    return float(inside.min()), float(inside.max())


def _examine(
    ants: Any,
    images: _Images,
    transforms: list[str],
    jacobian: tuple[float, float] = (1.0, 1.0),
) -> _Candidate:
    def warp(image: ants.ANTsImage, interpolator: str, outside: float = 0.0) -> ants.ANTsImage:
        return ants.apply_transforms(
            images.fixed, image, transforms, interpolator=interpolator, defaultvalue=outside
        )

    everywhere = images.moving_mask.new_image_like(np.ones(images.moving_mask.shape, np.float32))
    seen_brain = (images.brain.numpy() > 0) & (warp(everywhere, "nearestNeighbor").numpy() > 0)
    epi_mask = warp(images.moving_mask, "nearestNeighbor").numpy() > 0
    both = seen_brain & epi_mask
    moving = warp(images.moving, "linear", BACKGROUND)
    pairs = moving.numpy()[both], images.fixed.numpy()[both]
    return _Candidate(
        transforms,
        # The part of the brain outside the EPI's field of view cannot overlap.
        dice=float(2 * both.sum() / max(1, seen_brain.sum() + epi_mask.sum())),
        mutual_information=_mutual_information(ants, images, transforms),
        correlation=float(np.corrcoef(*pairs)[0, 1]) if both.any() else 0.0,
        coverage=float(seen_brain.sum() / (images.brain.numpy() > 0).sum()),
        jacobian_min=jacobian[0],
        jacobian_max=jacobian[1],
    )


def _mutual_information(ants: Any, images: _Images, transforms: list[str]) -> float:
    """In the brain and its rim, as fine as the affine stage looks at it."""
    fixed = coarse(ants, images.fixed, _AFFINE_VOXEL_MM)
    mask = ants.resample_image_to_target(images.metric_mask, fixed, "nearestNeighbor")
    moving = ants.apply_transforms(fixed, images.moving, transforms, defaultvalue=BACKGROUND)
    return -float(ants.image_similarity(fixed, moving, "MattesMutualInformation", fixed_mask=mask))


def _improves(syn: _Candidate, affine: _Candidate) -> bool:
    return (
        syn.jacobian_min > 0
        and syn.mutual_information > affine.mutual_information
        and syn.dice >= affine.dice + _LEAST_DICE_GAIN
        and syn.correlation >= affine.correlation * _LEAST_CORRELATION_GAIN
    )


def _t1_fits(over_t1: _Candidate, affine: _Candidate) -> bool:
    """Whether the way over the T1 explains the EPI better and folds nothing.

    Two steps between images of like contrast are trusted where one between T1 and EPI is not:
    overlap and correlation may stay what they are.
    """
    return (
        over_t1.jacobian_min > 0
        and over_t1.mutual_information > affine.mutual_information
        and over_t1.dice >= affine.dice - _LARGEST_DICE_LOSS
    )


def _quality(
    affine: _Candidate, syn: _Candidate | None, t1: _Candidate | None, chosen: _Candidate
) -> dict[str, float | str | bool]:
    tried = {"affine": affine, "t1": t1, "syn": syn}
    quality: dict[str, float | str | bool] = {"dice": chosen.dice, "coverage": chosen.coverage}
    for name, candidate in tried.items():
        if candidate is None:
            continue
        if candidate is chosen:
            quality["transform"] = name
        quality[f"dice_{name}"] = candidate.dice
        quality[f"mi_{name}"] = candidate.mutual_information
        quality[f"correlation_{name}"] = candidate.correlation
        if name != "affine":
            quality["jacobian_min"] = candidate.jacobian_min
            quality["jacobian_max"] = candidate.jacobian_max
            quality[f"{name}_rejected"] = candidate is not chosen
    return quality


def _on_template(
    ants: Any, images: _Images, mean_epi: np.ndarray, affine: np.ndarray, transforms: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """EPI and its mask on the template."""
    epi = ants.apply_transforms(
        images.fixed, to_ants(ants, mean_epi, affine), transforms, defaultvalue=_NOT_SCANNED
    ).numpy()
    mask = ants.apply_transforms(
        images.fixed, images.moving_mask, transforms, interpolator="nearestNeighbor"
    )
    seen = np.where(epi > _NOT_SCANNED / 2, epi, np.nan).astype(np.float32)
    return seen, mask.numpy() > 0


def _native_points(ants: Any, transforms: list[str]) -> np.ndarray:
    import pandas as pd

    mask: nib.Nifti1Image = load_brain_mask()
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    template_mm = voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    flip = np.array([-1.0, -1.0, 1.0])
    points = pd.DataFrame(template_mm * flip, columns=["x", "y", "z"])
    # Points go from fixed to moving with the transforms that bring images from moving to fixed.
    native = ants.apply_transforms_to_points(3, points, transforms)
    return (native[["x", "y", "z"]].to_numpy() * flip).astype(np.float32)
