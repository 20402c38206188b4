"""A subject's head in the scanner: a known affine and a known smooth warp to MNI space."""

from __future__ import annotations

import numpy as np

from preprocessing.template.head_map import HeadMap, displacement_at, transformed

WARP_SPACING_MM = 4.0
WARP_SMOOTHNESS_MM = 22.0
LARGEST_WARP_MM = 5.0


def random_head_map(rng: np.random.Generator) -> HeadMap:
    """Draw a head: turned by some degrees, somewhat smaller than the template, of another shape."""
    warp_affine = np.diag([WARP_SPACING_MM] * 3 + [1.0])
    warp_affine[:3, 3] = -90, -126, -72
    warp = _smooth_displacement(rng, shape=(46, 55, 46))
    return HeadMap(
        affine=np.linalg.inv(_random_mni_to_scanner(rng)),
        warp_mm=warp,
        inverse_warp_mm=_invert_displacement(warp, warp_affine),
        warp_affine=warp_affine,
    )


def epi_affine(
    rng: np.random.Generator,
    head_map: HeadMap,
    shape: tuple[int, int, int],
    voxel_mm: tuple[float, float, float],
) -> np.ndarray:
    """Place an oblique slab over the head, x running from right to left as scanners store it.

    Returns
    -------
    ndarray of shape (4, 4)
        Voxel index -> scanner mm (RAS).
    """
    tilt, turn = np.deg2rad([rng.uniform(4, 12), rng.uniform(-3, 3)])
    axes = _rotation(tilt, 0.0, turn) @ np.diag([-voxel_mm[0], voxel_mm[1], voxel_mm[2]])
    center_mm = head_map.to_scanner(np.array([[0.0, -18.0, 17.0]]))[0]
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = center_mm - axes @ (np.array(shape) - 1) / 2
    return affine


def voxel_centers(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Return the centers of all voxels, (x * y * z, 3) mm, last index fastest."""
    indices = np.indices(shape, dtype=np.float64).reshape(3, -1).T
    return transformed(affine, indices)


def _random_mni_to_scanner(rng: np.random.Generator) -> np.ndarray:
    rotation = _rotation(*np.deg2rad(rng.uniform(-6, 6, size=3)))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.uniform(-0.03, 0.03, size=3)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ np.diag(rng.uniform(0.90, 1.02, size=3))
    affine[:3, 3] = rng.uniform(-10, 10, size=3)
    return affine


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", [x, y, z]).as_matrix()


def _smooth_displacement(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = WARP_SMOOTHNESS_MM / WARP_SPACING_MM
    noise = rng.standard_normal((3, *shape))
    field = np.stack([gaussian_filter(part, sigma, mode="reflect") for part in noise], axis=-1)
    length = np.sqrt((field**2).sum(axis=-1)).max()
    return (field * (LARGEST_WARP_MM / length)).astype(np.float32)


def _invert_displacement(warp_mm: np.ndarray, warp_affine: np.ndarray) -> np.ndarray:
    """Fixed-point iteration; converges because the warp's slope is far below 1."""
    target_mm = voxel_centers(warp_mm.shape[:3], warp_affine)
    inverse = np.zeros_like(target_mm)
    for _ in range(8):
        inverse = -displacement_at(warp_mm, warp_affine, target_mm + inverse)
    return inverse.reshape(warp_mm.shape).astype(np.float32)
