"""A BOLD run on disk: opened, checked, read as float32."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.recordings import Recording

if TYPE_CHECKING:
    import nibabel as nib

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_TR_TOLERANCE_S = 1e-3
_VOLUMES_PER_BLOCK = 32


@dataclass(frozen=True)
class BoldRun:
    """A 4-D NIfTI that passed its checks.

    Attributes
    ----------
    path : Path
        File.
    image : nibabel.Nifti1Image
        Nothing but its header is in memory.
    n_volumes : int
        Volumes in the file.
    tr_s : float
        Repetition time in use, in s.
    header_tr_s : float
        Repetition time that the header states, in s; 0 where it states none.
    affine : ndarray of shape (4, 4)
        Voxel index -> scanner mm (RAS).
    """

    path: Path
    image: nib.Nifti1Image
    n_volumes: int
    tr_s: float
    header_tr_s: float
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z, _ = self.image.shape
        return x, y, z

    @property
    def tr_mismatch(self) -> str:
        """What is to be said where configured and stated TR differ; empty where they agree."""
        if not self.header_tr_s or abs(self.header_tr_s - self.tr_s) < _TR_TOLERANCE_S:
            return ""
        return f"TR {self.tr_s:g} s is used; the NIfTI header says {self.header_tr_s:g} s"

    def blocks(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yield volumes from `first` on as float32 (x, y, z, volume), some at a time.

        Raises
        ------
        DataError
            If the file is truncated, or a volume holds values that are not finite or is constant.
        """
        stored = self._stored()
        proxy: Any = self.image.dataobj
        for start in range(first, self.n_volumes, _VOLUMES_PER_BLOCK):
            stop = min(start + _VOLUMES_PER_BLOCK, self.n_volumes)
            block = stored[..., start:stop].astype(np.float32)
            block = block * np.float32(proxy.slope) + np.float32(proxy.inter)
            self._check_values(block, start)
            yield block

    def mean(self, first: int = 0) -> np.ndarray:
        """Return the mean of the volumes from `first` on, (x, y, z).

        Raises
        ------
        DataError
            As `blocks`.
        """
        total = np.zeros(self.image.shape[:3])
        for block in self.blocks(first):
            total += block.sum(axis=3, dtype=np.float64)
        return (total / (self.n_volumes - first)).astype(np.float32)

    def first_volumes(self, count: int) -> np.ndarray:
        """Return the first volumes, at most `count`, as float32 (x, y, z, volume), unchecked."""
        with self._damage_named():
            return np.asarray(self.image.dataobj[..., :count], dtype=np.float32)

    def _stored(self) -> np.ndarray:
        with self._damage_named():
            return _read_whole(self.path, self.image)

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(
                f"the NIfTI file is truncated or damaged ({error})",
                where=self.path,
                remedy="copy or download the file again",
            ) from None

    def _check_values(self, block: np.ndarray, start: int) -> None:
        # NaN and infinities carry over to the range.
        with np.errstate(invalid="ignore"):
            ranges = np.ptp(block, axis=(0, 1, 2))
        bad = ~np.isfinite(ranges) | (ranges == 0)
        if not bad.any():
            return
        first = int(np.argmax(bad))
        found = "is the same everywhere" if ranges[first] == 0 else "holds NaN or infinite values"
        raise DataError(
            f"volume {start + first} {found}",
            where=self.path,
            remedy="convert the run from DICOM again",
        )


def open_bold(path: Path, tr_s: float | None = None, dummy_scans: int = 0) -> BoldRun:
    """Open a BOLD run and check its header.

    Parameters
    ----------
    path : Path
        4-D NIfTI (``.nii`` or ``.nii.gz``).
    tr_s : float or None
        Repetition time that wins over the header's (config or sidecar).
    dummy_scans : int
        First volumes that will be dropped.

    Raises
    ------
    DataError
        If the file is not a 4-D NIfTI, its affine cannot be used, it states no TR and none is
        given, or no volume is left.
    """
    image = _load(path)
    if len(image.shape) != 4:
        raise DataError(
            f"a BOLD run has 4 dimensions, this file has {len(image.shape)} {image.shape}",
            where=path,
            remedy="give the functional run, not a single volume or an anatomical image",
        )
    _check_affine(image.affine, path)
    if image.shape[3] <= dummy_scans:
        raise DataError(
            f"{image.shape[3]} volumes, of which the first {dummy_scans} are dropped",
            where=path,
            remedy="lower dummy_scans or leave the recording out",
        )
    header_tr_s = _header_tr_s(image)
    if not (tr_s or header_tr_s > 0):
        raise DataError(
            "the header states a repetition time of 0 s",
            where=path,
            remedy="set source.tr_s in the config (s), or RepetitionTime in the BIDS sidecar",
        )
    return BoldRun(path, image, image.shape[3], tr_s or header_tr_s, header_tr_s, image.affine)


def _load(path: Path) -> nib.Nifti1Image:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nib.load(path)
    except FileNotFoundError:
        raise DataError("no such BOLD file", where=path) from None
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"not a NIfTI file, or its header is damaged ({error})",
            where=path,
            remedy="copy or download the file again",
        ) from None
    assert isinstance(image, nib.Nifti1Image)
    return image


def _read_whole(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """Read the stored values; of a compressed file to its end, where the checksum is."""
    import nibabel as nib

    proxy: Any = image.dataobj
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            proxy = nib.Nifti1Image.from_bytes(file.read()).dataobj
    return proxy.get_unscaled()


def _header_tr_s(image: nib.Nifti1Image) -> float:
    unit = image.header.get_xyzt_units()[1]
    return float(image.header.get_zooms()[3]) * _SECONDS.get(unit, 1.0)


def _check_affine(affine: np.ndarray, path: Path) -> None:
    if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6:
        return
    raise DataError(
        "the affine is singular (zeros or not finite): voxels have no place in space",
        where=path,
        remedy="convert the run from DICOM again, or set its sform from another run of the "
        "same session",
    )


def open_run(recording: Recording, config: PreprocessConfig) -> BoldRun:
    """Open the BOLD run of a recording; only its header is read."""
    return open_bold(recording.bold_path, recording.tr_s, config.dummy_scans)
