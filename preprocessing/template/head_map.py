"""A head in the scanner and in MNI space: an affine and a warp that are known exactly."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError


@dataclass(frozen=True)
class HeadMap:
    """Scanner mm <-> MNI mm, ``mni = a + warp(a)`` with ``a = affine @ scanner``.

    Attributes
    ----------
    affine : ndarray of shape (4, 4)
        Scanner mm -> MNI mm without the warp.
    warp_mm, inverse_warp_mm : ndarray of shape (46, 55, 46, 3), float32
        Displacements on the grid of `warp_affine`, linear between its points, constant beyond its
        edges: ``mni = a + warp(a)`` and ``a = mni + inverse_warp(mni)``.
    warp_affine : ndarray of shape (4, 4)
        Voxel of the displacement grids -> MNI mm.
    """

    affine: np.ndarray
    warp_mm: np.ndarray
    inverse_warp_mm: np.ndarray
    warp_affine: np.ndarray

    def to_mni(self, scanner_mm: np.ndarray) -> np.ndarray:
        """Map points, (n, 3) scanner mm -> (n, 3) MNI mm."""
        affine_mm = transformed(self.affine, scanner_mm)
        return affine_mm + displacement_at(self.warp_mm, self.warp_affine, affine_mm)

    def to_scanner(self, mni_mm: np.ndarray) -> np.ndarray:
        """Map points, (n, 3) MNI mm -> (n, 3) scanner mm."""
        affine_mm = mni_mm + displacement_at(self.inverse_warp_mm, self.warp_affine, mni_mm)
        return transformed(np.linalg.inv(self.affine), affine_mm)


def load_head_map(path: Path) -> HeadMap:
    """Read a head map from an ``.npz``.

    Parameters
    ----------
    path : Path
        Its arrays ``affine_scanner_to_mni``, ``warp_mm``, ``inverse_warp_mm`` and ``warp_affine``
        are the fields of `HeadMap`; others may be there too.

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks one of them.
    """
    try:
        with np.load(path) as archive:
            return HeadMap(
                archive["affine_scanner_to_mni"],
                archive["warp_mm"],
                archive["inverse_warp_mm"],
                archive["warp_affine"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"no head map can be read from it ({error})",
            where=path,
            remedy="simulate the subject again, or leave it out of the recording's truth",
        ) from None


def displacement_at(field_mm: np.ndarray, affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Return a displacement field at points, (n, 3) mm, by linear interpolation.

    Parameters
    ----------
    field_mm : ndarray of shape (x, y, z, 3)
        Constant beyond its edges.
    affine : ndarray of shape (4, 4)
        Voxel of the field -> mm.
    points_mm : ndarray of shape (n, 3)
    """
    from scipy.ndimage import map_coordinates

    indices = transformed(np.linalg.inv(affine), points_mm).T
    parts = [
        map_coordinates(field_mm[..., axis], indices, order=1, mode="nearest") for axis in range(3)
    ]
    return np.stack(parts, axis=-1)


def transformed(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine (4, 4) to points (n, 3)."""
    return points @ affine[:3, :3].T + affine[:3, 3]
