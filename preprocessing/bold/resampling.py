"""BOLD run + registration -> volumes on the grid of the store, by one sparse operator.

The paper warps each volume to the 2 mm template, masks it with the template's brain mask and
resizes it to 64x64x30. All three are linear in the data, so their product is one sparse matrix per
run: built once, applied to all volumes. With motion correction there is one operator per volume:
the warp samples where the head lies in that volume, so that nothing is interpolated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from eeg2fmri_dist.config.preprocess import BoldConfig
from preprocessing.bold.bold_run import BoldRun
from preprocessing.bold.motion import RigidAligner, motion_quality
from preprocessing.bold.registration import Registration
from preprocessing.bold.slice_timing import shift_to_mid_tr
from preprocessing.template.mni import TEMPLATE_SHAPE, grid_affine, load_brain_mask

_INSIDE = 0.5

# Volumes (x, y, z, volume) of the run and their motion (volume, 6) -> (volume, voxel of the mask).
Sampler = Callable[[np.ndarray, np.ndarray], np.ndarray]


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
    motion : ndarray of shape (volume, 6), float64
        How the head moved, relative to the run's mean, as `motion.PARAMETERS` names it.
    quality : dict
        ``tsnr_median`` (median over the mask of mean / standard deviation over time), ``unseen``
        (share of the mask outside the EPI's field of view, where volumes are zero), and what
        `motion.motion_quality` says.
    """

    volumes: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    motion: np.ndarray
    quality: dict[str, float]


def preprocess_bold(
    run: BoldRun,
    registration: Registration,
    config: BoldConfig,
    dummy_scans: int,
    slice_times_s: np.ndarray | None = None,
) -> BoldVolumes:
    """Bring the volumes of a run onto the grid, and measure how the head moved.

    Parameters
    ----------
    run : BoldRun
        As opened by `open_bold`.
    registration : Registration
        Of this run.
    config : BoldConfig
        Grid; whether motion is corrected.
    dummy_scans : int
        First volumes left out.
    slice_times_s : ndarray of shape (z,), optional
        Slices are shifted to the middle of their TR; without it they stay as acquired. The whole
        run is then in memory.
    """
    mask = grid_mask(config.grid)
    aligner = RigidAligner(registration.mean_epi, run.affine, registration.epi_mask)
    sample = _sampler(run, registration, config, aligner)
    volumes = np.zeros((run.n_volumes - dummy_scans, *config.grid), np.float32)
    motion = np.zeros((len(volumes), 6))
    done = 0
    for acquired, wanted in _blocks(run, dummy_scans, slice_times_s):
        now = slice(done, done + wanted.shape[3])
        # Slices that were shifted in time are smoother than the head's movement.
        motion[now] = aligner.align(acquired, motion[done - 1] if done else None)
        volumes[now, mask] = sample(wanted, motion[now])
        done = now.stop
    quality = _quality(volumes, mask) | motion_quality(motion)
    return BoldVolumes(volumes, mask, grid_affine(config.grid), motion, quality)


def _blocks(
    run: BoldRun, dummy_scans: int, slice_times_s: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Volumes (x, y, z, volume) as acquired, and the same with slices shifted where asked for."""
    if slice_times_s is None:
        for block in run.blocks(dummy_scans):
            yield block, block
        return
    acquired = np.concatenate(list(run.blocks(dummy_scans)), axis=3)
    yield acquired, shift_to_mid_tr(acquired, slice_times_s, run.tr_s)


def _sampler(
    run: BoldRun, registration: Registration, config: BoldConfig, aligner: RigidAligner
) -> Sampler:
    """One operator for all volumes, or one for each where motion is corrected."""
    if config.motion == "correct":
        return moving_sampler(registration, run.affine, config.grid, aligner)
    operator = sampling_operator(registration, run.shape, run.affine, config.grid)

    def sample(volumes: np.ndarray, _: np.ndarray) -> np.ndarray:
        sampled: np.ndarray = operator @ volumes.reshape(-1, volumes.shape[3], order="C")
        return sampled.T

    return sample


def moving_sampler(
    registration: Registration,
    native_affine: np.ndarray,
    grid: tuple[int, int, int],
    aligner: RigidAligner,
) -> Sampler:
    """Return the operators of volumes with a motion of their own, ready to apply.

    The same product of warp, mask and resizing as `sampling_operator`, with the warp following
    the head. Each is used once, so that its factors are applied in turn and never multiplied. What
    moves out of the field of view takes the value at its border: falling to zero and coming back,
    it would vary more than anything else.
    """
    brain = np.flatnonzero(np.asarray(load_brain_mask().dataobj) > 0)
    inside = np.flatnonzero(grid_mask(grid))
    resize_brain = sparse.csr_array(_resize_operator(grid)[inside][:, brain], dtype=np.float32)
    to_native = np.linalg.inv(native_affine)
    still = registration.native_mm @ to_native[:3, :3].T + to_native[:3, 3]
    seen, _ = _in_view(still, registration.mean_epi.shape)

    def sample(volumes: np.ndarray, motion: np.ndarray) -> np.ndarray:
        sampled = np.empty((len(motion), len(inside)), np.float32)
        for number, parameters in enumerate(motion):
            moved_mm = aligner.displaced_mm(registration.native_mm, parameters)
            index = moved_mm @ to_native[:3, :3].T + to_native[:3, 3]
            values = trilinear_values(volumes[..., number], index)
            sampled[number] = resize_brain @ np.where(seen, values, np.float32(0))
        return sampled

    return sample


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

    As ITK does it: points up to half a voxel outside the outermost centers take the value at the
    border, points further out are zero.

    Parameters
    ----------
    index : ndarray of shape (point, 3)
        Positions in voxel indices.
    shape : tuple of int
        Of the volume (C order).
    """
    last = np.array(shape) - 1
    seen, clamped = _in_view(index, shape)
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


def trilinear_values(volume: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Interpolate a volume linearly at points (n, 3); outside it takes the value at the border."""
    from scipy.ndimage import map_coordinates

    values: np.ndarray = map_coordinates(
        volume, index.T, order=1, mode="nearest", output=np.float32
    )
    return values


def _in_view(index: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which points count as inside a volume, and their positions clamped to it."""
    last = np.array(shape) - 1
    seen = np.asarray(((index >= -0.5) & (index <= last + 0.5)).all(axis=1))
    return seen, np.clip(index, 0, last)


@lru_cache(maxsize=1)
def _resize_operator(grid: tuple[int, int, int]) -> sparse.csr_array:
    """Linear interpolation of the 2 mm template at the centers of the grid."""
    template = load_brain_mask()
    to_template = np.linalg.inv(template.affine) @ grid_affine(grid)
    voxels = np.indices(grid).reshape(3, -1).T
    return trilinear_operator(voxels @ to_template[:3, :3].T + to_template[:3, 3], TEMPLATE_SHAPE)


def _quality(volumes: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    series = volumes[:, mask]
    mean, std = series.mean(axis=0), series.std(axis=0)
    changing = std > 0
    tsnr = float(np.median(mean[changing] / std[changing])) if changing.any() else 0.0
    return {"tsnr_median": tsnr, "unseen": float((~series.any(axis=0)).mean())}
