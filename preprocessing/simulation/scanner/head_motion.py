"""How the head moves between volumes, and what a moved head looks like."""

from __future__ import annotations

import numpy as np

from preprocessing.simulation.noise import smooth_noise
from preprocessing.simulation.seeding import generator

HEAD_RADIUS_MM = 50.0  # turns a rotation into the path of the scalp (Power et al. 2012)
_WANDER_S = 30.0
_JERK_PROBABILITY = 0.03  # of each volume
_JERK = 1.5  # s.d. of a jerk, relative to the wander


def head_motion(
    seed: int, subject: str, n_volumes: int, tr_s: float, motion_mm: float
) -> np.ndarray | None:
    """Draw where the head is at each volume: slow wander, and jerks after which it stays.

    Parameters
    ----------
    seed : int
    subject : str
    n_volumes : int
    tr_s : float
    motion_mm : float
        R.m.s. of each direction, for rotations on a radius of 50 mm.

    Returns
    -------
    ndarray of shape (volume, 6) or None
        Translations along x, y, z in mm, rotations about x, y, z in degrees, relative to the middle
        of the brain; None where `motion_mm` is 0.
    """
    if not motion_mm:
        return None
    rng = generator(seed, subject, "head motion")
    wander = smooth_noise(rng, (6, n_volumes), 1 / tr_s, _WANDER_S).T
    happens = rng.random(n_volumes) < _JERK_PROBABILITY
    jerks = np.cumsum(happens[:, None] * _JERK * rng.standard_normal((n_volumes, 6)), axis=0)
    course = wander + jerks
    course *= motion_mm / np.maximum(np.sqrt(np.mean(course**2)), 1e-9)
    course[:, 3:] *= np.rad2deg(1 / HEAD_RADIUS_MM)
    return course


def framewise_mm(motion: np.ndarray) -> np.ndarray:
    """Return framewise displacement (Power et al. 2012), (volume,) mm; 0 at the first volume."""
    path = np.hstack([motion[:, :3], np.deg2rad(motion[:, 3:]) * HEAD_RADIUS_MM])
    return np.abs(np.diff(path, axis=0, prepend=path[:1])).sum(axis=1)


def moved(image: np.ndarray, affine: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return an image (x, y, z) after the head went to `pose` (6,) about the grid's middle."""
    from scipy.ndimage import affine_transform
    from scipy.spatial.transform import Rotation

    to_mm = affine[:3, :3]
    turn = Rotation.from_euler("xyz", pose[3:], degrees=True).as_matrix()
    middle = (np.array(image.shape) - 1) / 2
    # A voxel shows what lay at the inverse of the movement.
    matrix = np.linalg.inv(to_mm) @ turn.T @ to_mm
    source = middle - matrix @ (middle + np.linalg.inv(to_mm) @ pose[:3])
    return affine_transform(image, matrix, source, order=3, mode="nearest")
