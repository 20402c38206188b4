"""Mean EPI -> MNI152: affine, then SyN where a gate accepts it. The only importer of ants."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.preprocess import BoldConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.template import load_brain_mask, load_template

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
# Contrast is compared with that of the neighbourhood: coil sensitivity and dropout do not count.
_NEIGHBOURHOOD_MM = 12.0
_LARGEST_CONTRAST = 3.0
_BACKGROUND = -4.0
# ITK takes no NaN as the value outside an image.
_NOT_SCANNED = -1e9
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Registration:
    """Where in the EPI each brain voxel of the template lies.

    Attributes
    ----------
    native_mm : ndarray of shape (voxel, 3), float32
        Scanner mm (RAS) of the template's brain voxels, in the order of ``numpy.nonzero``.
    quality : dict
        ``transform`` (affine or syn), ``dice_affine``, ``dice_syn``, ``mi_affine``, ``mi_syn``,
        ``correlation_affine``, ``correlation_syn`` (of local contrast inside the brain),
        ``jacobian_min``, ``jacobian_max``, ``coverage`` (share of the brain inside the EPI).
    mean_epi, epi_mask : ndarray of shape (x, y, z), float32 and bool
        What was registered, on the grid of the run: mean volume and the brain found in it.
    warped_epi, warped_mask : ndarray of shape (91, 109, 91), float32 and bool
        The same on the template, for a person to look at; the EPI is NaN outside its field of view.
    """

    native_mm: np.ndarray
    quality: dict[str, float | str | bool]
    mean_epi: np.ndarray
    epi_mask: np.ndarray
    warped_epi: np.ndarray
    warped_mask: np.ndarray


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


def register(mean_epi: np.ndarray, affine: np.ndarray, config: BoldConfig) -> Registration:
    """Register the mean EPI of a run with the template.

    The transform is estimated on the local contrast of the masked EPI and of the template's brain,
    turned round (T1 -> T2*-like), because a full head fails on real EPI; it is meant to be applied
    to unmasked volumes. SyN is kept where it raises mutual information, clearly raises the overlap
    of masks and the correlation of contrasts, and folds nothing; otherwise affine is kept and the
    quality says so.

    Parameters
    ----------
    mean_epi : ndarray of shape (x, y, z)
        Mean of the run.
    affine : ndarray of shape (4, 4)
        Voxel index -> scanner mm (RAS).
    config : BoldConfig
        Kind of transform, seed, smallest overlap.

    Raises
    ------
    DataError
        If masks overlap by less than `config.min_dice`, or no brain is found.
    """
    ants = _import_ants(config.seed)
    images = _prepare(ants, mean_epi, affine)
    with tempfile.TemporaryDirectory() as folder:
        chosen = by_affine = _affine(ants, images, folder)
        by_syn = None
        if config.transform == "syn":
            by_syn = _syn(ants, images, by_affine, folder)
            if _improves(by_syn, by_affine):
                chosen = by_syn
        quality = _quality(by_affine, by_syn, chosen)
        if chosen.dice < config.min_dice:
            raise DataError(
                f"registration failed its gate: the EPI's brain mask overlaps the template's by "
                f"{chosen.dice:.3f} (Dice), at least {config.min_dice} is asked for",
                remedy="look at the mean EPI; if it is a whole brain in a plausible orientation, "
                "lower bold.min_dice, otherwise leave the recording out",
            )
        return Registration(
            _native_points(ants, chosen.transforms),
            quality,
            np.asarray(mean_epi, np.float32),
            images.moving_mask.numpy() > 0,
            *_on_template(ants, images, mean_epi, affine, chosen.transforms),
        )


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
    from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes

    template, mask = load_template(), load_brain_mask()
    brain = np.asarray(mask.dataobj) > 0
    t1 = np.asarray(template.dataobj, dtype=np.float32)
    rim = binary_dilation(brain, iterations=_METRIC_RIM_VOXELS)
    # The template's mask has holes where the ventricles are; those of an EPI are bright.
    whole = binary_fill_holes(binary_closing(brain, iterations=4))
    epi_mask = _epi_mask(mean_epi, affine)
    return _Images(
        fixed=_to_ants(ants, _contrast(-t1, whole, template.affine), template.affine),
        metric_mask=_to_ants(ants, rim, template.affine),
        brain=_to_ants(ants, brain, template.affine),
        moving=_to_ants(ants, _contrast(mean_epi, epi_mask, affine), affine),
        moving_mask=_to_ants(ants, epi_mask, affine),
    )


def _contrast(image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Deviation from the mean of the neighbourhood in its standard deviations, inside the mask."""
    from scipy.ndimage import gaussian_filter

    sigma = _NEIGHBOURHOOD_MM / np.linalg.norm(affine[:3, :3], axis=0)
    weight = np.maximum(gaussian_filter(mask.astype(np.float32), sigma), 0.02)
    mean = gaussian_filter(np.where(mask, image, 0).astype(np.float32), sigma) / weight
    deviation = np.where(mask, image - mean, 0)
    spread = np.sqrt(gaussian_filter(deviation**2, sigma) / weight)
    least = max(0.15 * float(spread[mask].mean()), 1e-6)
    contrast = deviation / np.maximum(spread, least)
    return np.where(mask, contrast.clip(-_LARGEST_CONTRAST, _LARGEST_CONTRAST), _BACKGROUND)


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


def _to_ants(ants: Any, volume: np.ndarray, affine: np.ndarray) -> ants.ANTsImage:
    lps = _RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(volume, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )


def _coarse(ants: Any, image: ants.ANTsImage, voxel_mm: float) -> ants.ANTsImage:
    return ants.resample_image(image, (voxel_mm,) * 3)


def _affine(ants: Any, images: _Images, folder: str) -> _Candidate:
    result = ants.registration(
        _coarse(ants, images.fixed, _AFFINE_VOXEL_MM),
        images.moving,
        type_of_transform="Affine",
        outprefix=os.path.join(folder, "affine_"),
    )
    return _examine(ants, images, result["fwdtransforms"])


def _syn(ants: Any, images: _Images, start: _Candidate, folder: str) -> _Candidate:
    fixed = _coarse(ants, images.fixed, _SYN_VOXEL_MM)
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
    transforms = result["fwdtransforms"]
    jacobian = ants.create_jacobian_determinant_image(fixed, transforms[0], do_log=False)
    inside = jacobian.numpy()[_coarse(ants, images.brain, _SYN_VOXEL_MM).numpy() > 0.5]
    return _examine(ants, images, transforms, float(inside.min()), float(inside.max()))


def _examine(
    ants: Any,
    images: _Images,
    transforms: list[str],
    jacobian_min: float = 1.0,
    jacobian_max: float = 1.0,
) -> _Candidate:
    def warp(image: ants.ANTsImage, interpolator: str, outside: float = 0.0) -> ants.ANTsImage:
        return ants.apply_transforms(
            images.fixed, image, transforms, interpolator=interpolator, defaultvalue=outside
        )

    everywhere = images.moving_mask.new_image_like(np.ones(images.moving_mask.shape, np.float32))
    seen_brain = (images.brain.numpy() > 0) & (warp(everywhere, "nearestNeighbor").numpy() > 0)
    epi_mask = warp(images.moving_mask, "nearestNeighbor").numpy() > 0
    both = seen_brain & epi_mask
    moving = warp(images.moving, "linear", _BACKGROUND)
    similarity = ants.image_similarity(
        images.fixed, moving, metric_type="MattesMutualInformation", fixed_mask=images.metric_mask
    )
    pairs = moving.numpy()[both], images.fixed.numpy()[both]
    return _Candidate(
        transforms,
        # The part of the brain outside the EPI's field of view cannot overlap.
        dice=float(2 * both.sum() / max(1, seen_brain.sum() + epi_mask.sum())),
        mutual_information=-float(similarity),
        correlation=float(np.corrcoef(*pairs)[0, 1]) if both.any() else 0.0,
        coverage=float(seen_brain.sum() / (images.brain.numpy() > 0).sum()),
        jacobian_min=jacobian_min,
        jacobian_max=jacobian_max,
    )


def _improves(syn: _Candidate, affine: _Candidate) -> bool:
    return (
        syn.jacobian_min > 0
        and syn.mutual_information > affine.mutual_information
        and syn.dice >= affine.dice + _LEAST_DICE_GAIN
        and syn.correlation >= affine.correlation * _LEAST_CORRELATION_GAIN
    )


def _quality(
    affine: _Candidate, syn: _Candidate | None, chosen: _Candidate
) -> dict[str, float | str | bool]:
    quality: dict[str, float | str | bool] = {
        "transform": "affine" if chosen is affine else "syn",
        "dice": chosen.dice,
        "coverage": chosen.coverage,
        "dice_affine": affine.dice,
        "mi_affine": affine.mutual_information,
        "correlation_affine": affine.correlation,
    }
    if syn is not None:
        quality |= {
            "dice_syn": syn.dice,
            "mi_syn": syn.mutual_information,
            "correlation_syn": syn.correlation,
            "jacobian_min": syn.jacobian_min,
            "jacobian_max": syn.jacobian_max,
            "syn_rejected": chosen is affine,
        }
    return quality


def _on_template(
    ants: Any, images: _Images, mean_epi: np.ndarray, affine: np.ndarray, transforms: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """EPI and its mask on the template."""
    epi = ants.apply_transforms(
        images.fixed, _to_ants(ants, mean_epi, affine), transforms, defaultvalue=_NOT_SCANNED
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
