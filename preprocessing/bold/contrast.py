"""Images as the registration compares them; `ants` is handed in, so that it keeps one door."""

from __future__ import annotations

from typing import Any

import numpy as np

from preprocessing.template.mni import load_brain_mask

# Value of `local_contrast` outside the mask.
BACKGROUND = -4.0
# Contrast is compared with that of the neighborhood: coil sensitivity and dropout do not count.
_NEIGHBOURHOOD_MM = 12.0
_LARGEST_CONTRAST = 3.0
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Around the brain of the template: as far as a warp of the brain's border looks.
_MARGIN_MM = 8.0


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Close a brain mask over the ventricles."""
    from scipy.ndimage import binary_closing, binary_fill_holes

    closed: np.ndarray = binary_fill_holes(binary_closing(mask, iterations=4))
    return closed


def local_contrast(image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Deviation from the mean of the neighborhood in its standard deviations, inside the mask."""
    from scipy.ndimage import gaussian_filter

    sigma = _NEIGHBOURHOOD_MM / np.linalg.norm(affine[:3, :3], axis=0)
    weight = np.maximum(gaussian_filter(mask.astype(np.float32), sigma), 0.02)
    mean = gaussian_filter(np.where(mask, image, 0).astype(np.float32), sigma) / weight
    deviation = np.where(mask, image - mean, 0)
    spread = np.sqrt(gaussian_filter(deviation**2, sigma) / weight)
    least = max(0.15 * float(spread[mask].mean()), 1e-6)
    contrast = deviation / np.maximum(spread, least)
    return np.where(mask, contrast.clip(-_LARGEST_CONTRAST, _LARGEST_CONTRAST), BACKGROUND)


def to_ants(ants: Any, volume: np.ndarray, affine: np.ndarray) -> Any:
    """Turn an array (x, y, z) and its affine (RAS mm) into an image of ANTs."""
    lps = _RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(volume, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )


def coarse(ants: Any, image: Any, voxel_mm: float) -> Any:
    """Resample an image to voxels of one size."""
    return ants.resample_image(image, (voxel_mm,) * 3)


def around_brain(ants: Any, image: Any, voxel_mm: float) -> Any:
    """Resample an image on the template's grid, cropped to a box around the template's brain.

    Half of the template is air, in which SyN would compute a field that nobody reads.
    """
    brain = load_brain_mask()
    voxels = np.argwhere(np.asarray(brain.dataobj) > 0)
    margin = np.ceil(_MARGIN_MM / np.linalg.norm(brain.affine[:3, :3], axis=0)).astype(int)
    begin = np.maximum(voxels.min(axis=0) - margin, 0)
    end = np.minimum(voxels.max(axis=0) + 1 + margin, image.shape)
    return coarse(ants, ants.crop_indices(image, begin.tolist(), end.tolist()), voxel_mm)
