"""BOLD run + registration -> volumes on the grid of the store, by one sparse operator.

The paper warps each volume to the 2 mm template, masks it with the template's brain mask and
resizes it to 64x64x30. All three are linear in the data, so their product is one sparse matrix per
run: built once, applied to all volumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from eeg2fmri_dist.config.preprocess import BoldConfig
from preprocessing.nifti import BoldRun
from preprocessing.registration import Registration
from preprocessing.template import TEMPLATE_SHAPE, grid_affine, load_brain_mask

_INSIDE = 0.5


@dataclass(frozen=True)
class BoldVolumes:
    """A preprocessed run.

    Attributes
    ----------
    volumes : ndarray of shape (volume, x, y, z), float32
        Intensity as scanned, zero outside the mask.
    mask : ndarray of bool, shape (x, y, z)
        Brain mask on the grid.
    affine : ndarray of shape (4, 4)
        Grid index -> MNI mm.
    quality : dict
        ``tsnr_median`` (median over the mask of mean / standard deviation over time) and
        ``unseen`` (share of the mask outside the EPI's field of view, where volumes are zero).
    """

    volumes: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    quality: dict[str, float]


def preprocess_bold(
    run: BoldRun, registration: Registration, config: BoldConfig, drop_volumes: int
) -> BoldVolumes:
    """Bring the volumes of a run onto the grid.

    Parameters
    ----------
    run : BoldRun
        As opened by `open_bold`.
    registration : Registration
        Of this run.
    config : BoldConfig
        Grid.
    drop_volumes : int
        First volumes left out.
    """
    mask = grid_mask(config.grid)
    operator = sampling_operator(registration, run.shape, run.affine, config.grid)
    volumes = np.zeros((run.n_volumes - drop_volumes, *config.grid), np.float32)
    done = 0
    for block in run.blocks(drop_volumes):
        sampled = operator @ block.reshape(-1, block.shape[3], order="C")
        volumes[done : done + block.shape[3], mask] = sampled.T
        done += block.shape[3]
    return BoldVolumes(volumes, mask, grid_affine(config.grid), _quality(volumes, operator, mask))


def grid_mask(grid: tuple[int, int, int]) -> np.ndarray:
    """Return the template's brain mask on the grid: at least half brain after linear resizing."""
    brain = np.asarray(load_brain_mask().dataobj) > 0
    resized = _resize_operator(grid) @ brain.ravel().astype(np.float32)
    return (resized >= _INSIDE).reshape(grid)


def sampling_operator(
    registration: Registration,
    native_shape: tuple[int, int, int],
    native_affine: np.ndarray,
    grid: tuple[int, int, int],
) -> sparse.csr_array:
    """Return warp x mask x resize as one matrix.

    Parameters
    ----------
    registration : Registration
        Native position of each brain voxel of the template.
    native_shape, native_affine
        Of the BOLD run.
    grid : tuple of int
        Voxels of the store's grid.

    Returns
    -------
    csr_array of shape (voxels of the grid mask, native voxels), float32
        Rows in the order of ``numpy.nonzero(grid_mask(grid))``, columns in C order.
    """
    to_native = np.linalg.inv(native_affine)
    native_index = registration.native_mm @ to_native[:3, :3].T + to_native[:3, 3]
    warp = trilinear_operator(native_index, native_shape)
    brain = np.flatnonzero(np.asarray(load_brain_mask().dataobj) > 0)
    inside = np.flatnonzero(grid_mask(grid))
    resize_brain = _resize_operator(grid)[inside][:, brain]
    return sparse.csr_array(resize_brain @ warp, dtype=np.float32)


def trilinear_operator(index: np.ndarray, shape: tuple[int, int, int]) -> sparse.csr_array:
    """Return the matrix that interpolates a volume linearly at points.

    As ITK does it: points up to half a voxel outside the outermost centres take the value at the
    border, points further out are zero.

    Parameters
    ----------
    index : ndarray of shape (point, 3)
        Positions in voxel indices.
    shape : tuple of int
        Of the volume (C order).
    """
    last = np.array(shape) - 1
    seen = ((index >= -0.5) & (index <= last + 0.5)).all(axis=1)
    clamped = np.clip(index, 0, last)
    low = np.minimum(np.floor(clamped).astype(np.int64), np.maximum(last - 1, 0))
    fraction = clamped - low
    rows = np.flatnonzero(seen)
    weights, columns = [], []
    for corner in np.ndindex(2, 2, 2):
        at = np.minimum(low[rows] + corner, last)
        columns.append(np.ravel_multi_index(at.T, shape))
        share = np.where(np.array(corner) == 1, fraction[rows], 1 - fraction[rows])
        weights.append(share.prod(axis=1))
    operator = sparse.coo_array(
        (np.concatenate(weights), (np.tile(rows, 8), np.concatenate(columns))),
        shape=(len(index), int(np.prod(shape))),
    ).tocsr()
    operator.eliminate_zeros()
    return operator


def _resize_operator(grid: tuple[int, int, int]) -> sparse.csr_array:
    """Linear interpolation of the 2 mm template at the centres of the grid."""
    template = load_brain_mask()
    to_template = np.linalg.inv(template.affine) @ grid_affine(grid)
    voxels = np.indices(grid).reshape(3, -1).T
    return trilinear_operator(voxels @ to_template[:3, :3].T + to_template[:3, 3], TEMPLATE_SHAPE)


def _quality(volumes: np.ndarray, operator: sparse.csr_array, mask: np.ndarray) -> dict[str, float]:
    series = volumes[:, mask]
    mean, std = series.mean(axis=0), series.std(axis=0)
    changing = std > 0
    tsnr = float(np.median(mean[changing] / std[changing])) if changing.any() else 0.0
    empty_rows = np.diff(operator.indptr) == 0
    return {"tsnr_median": tsnr, "unseen": float(empty_rows.mean())}
