"""A run of volumes in template space as one NIfTI file."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.files.atomic import replacing

if TYPE_CHECKING:
    import nibabel as nib


def write_run(path: Path, volumes: np.ndarray, affine: np.ndarray, tr_s: float) -> None:
    """Write volumes as a 4-D NIfTI in template space that is whole or not there.

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``.
    volumes : ndarray of shape (volume, x, y, z)
        Written in float32.
    affine : ndarray of shape (4, 4)
        Voxel index -> MNI mm (RAS).
    tr_s : float
        Repetition time in s.
    """
    write_run_in_blocks(path, [volumes], volumes.shape, affine, tr_s)


def write_run_in_blocks(
    path: Path,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, ...],
    affine: np.ndarray,
    tr_s: float,
) -> None:
    """Write a run whose volumes are not in memory at once (see `write_run`).

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``.
    blocks : iterable of ndarray of shape (some volumes, x, y, z)
        In order of time.
    shape : tuple of int
        Of the whole run: volumes, x, y, z.
    affine : ndarray of shape (4, 4)
        Voxel index -> MNI mm (RAS).
    tr_s : float
        Repetition time in s.
    """
    header = _header(shape, affine, tr_s)
    with replacing(path) as temporary, _writing(temporary, path.name.endswith(".gz")) as file:
        header.write_to(file)
        for block in blocks:
            for volume in block:
                file.write(volume.astype("<f4").tobytes(order="F"))


@contextlib.contextmanager
def _writing(path: Path, compressed: bool) -> Iterator[Any]:
    """Open for writing; the same content gives the same bytes, and little time is spent on it."""
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0
        ) as packed:
            yield packed


def _header(shape: tuple[int, ...], affine: np.ndarray, tr_s: float) -> nib.Nifti1Header:
    import nibabel as nib

    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.float32)
    header.set_data_shape((*shape[1:], shape[0]))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(affine, code="mni")
    header.set_qform(affine, code="mni")
    header.set_zooms((*header.get_zooms()[:3], tr_s))
    header.set_slope_inter(1, 0)
    return header
