"""Region labels on the grid: Harvard-Oxford where it is found, else parcels cut from the mask.

The Harvard-Oxford atlas is free for non-commercial use and does not come with this package. It is
looked for in the configured folder, in $FSLDIR and in nilearn's data folders.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.preprocess import AtlasConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.template.mni import grid_affine

if TYPE_CHECKING:
    import nibabel as nib

    from eeg2fmri_dist.store import Atlas

FILES = {
    "harvard_oxford_cortical": "HarvardOxford-cort-maxprob-thr25-2mm.nii.gz",
    "harvard_oxford_subcortical": "HarvardOxford-sub-maxprob-thr25-2mm.nii.gz",
}
_IN_FSL = Path("data/atlases/HarvardOxford")
_PARCELS_PER_HEMISPHERE = 30
_PARCELS_VERSION = 1

# In the order of the labels (1, 2, ...), as FSL's XML files list them.
CORTICAL = (
    "Frontal Pole",
    "Insular Cortex",
    "Superior Frontal Gyrus",
    "Middle Frontal Gyrus",
    "Inferior Frontal Gyrus, pars triangularis",
    "Inferior Frontal Gyrus, pars opercularis",
    "Precentral Gyrus",
    "Temporal Pole",
    "Superior Temporal Gyrus, anterior division",
    "Superior Temporal Gyrus, posterior division",
    "Middle Temporal Gyrus, anterior division",
    "Middle Temporal Gyrus, posterior division",
    "Middle Temporal Gyrus, temporooccipital part",
    "Inferior Temporal Gyrus, anterior division",
    "Inferior Temporal Gyrus, posterior division",
    "Inferior Temporal Gyrus, temporooccipital part",
    "Postcentral Gyrus",
    "Superior Parietal Lobule",
    "Supramarginal Gyrus, anterior division",
    "Supramarginal Gyrus, posterior division",
    "Angular Gyrus",
    "Lateral Occipital Cortex, superior division",
    "Lateral Occipital Cortex, inferior division",
    "Intracalcarine Cortex",
    "Frontal Medial Cortex",
    "Juxtapositional Lobule Cortex",
    "Subcallosal Cortex",
    "Paracingulate Gyrus",
    "Cingulate Gyrus, anterior division",
    "Cingulate Gyrus, posterior division",
    "Precuneous Cortex",
    "Cuneal Cortex",
    "Frontal Orbital Cortex",
    "Parahippocampal Gyrus, anterior division",
    "Parahippocampal Gyrus, posterior division",
    "Lingual Gyrus",
    "Temporal Fusiform Cortex, anterior division",
    "Temporal Fusiform Cortex, posterior division",
    "Temporal Occipital Fusiform Cortex",
    "Occipital Fusiform Gyrus",
    "Frontal Operculum Cortex",
    "Central Opercular Cortex",
    "Parietal Operculum Cortex",
    "Planum Polare",
    "Heschl's Gyrus",
    "Planum Temporale",
    "Supracalcarine Cortex",
    "Occipital Pole",
)
_SIDED = (
    "Cerebral White Matter",
    "Cerebral Cortex",
    "Lateral Ventricle",
    "Thalamus",
    "Caudate",
    "Putamen",
    "Pallidum",
)
_SIDED_BELOW = ("Hippocampus", "Amygdala", "Accumbens")
SUBCORTICAL = (
    *(f"Left {name}" for name in _SIDED),
    "Brain-Stem",
    *(f"Left {name}" for name in _SIDED_BELOW),
    *(f"Right {name}" for name in _SIDED + _SIDED_BELOW),
)
_NAMES = {"harvard_oxford_cortical": CORTICAL, "harvard_oxford_subcortical": SUBCORTICAL}


def load_atlases(
    config: AtlasConfig, grid: tuple[int, int, int], mask: np.ndarray
) -> dict[str, Atlas]:
    """Return the atlases of a store, the one for regional scores first.

    Parameters
    ----------
    config : AtlasConfig
        Where to look.
    grid : tuple of int
        Voxels of the store's grid.
    mask : ndarray of bool, shape (x, y, z)
        Brain mask on the grid; labels outside it are 0.

    Raises
    ------
    ConfigError
        If the configured folder does not hold the atlas.
    DataError
        If an atlas file cannot be used.
    """
    from eeg2fmri_dist.store import Atlas

    files = find_atlas_files(config)
    if not files:
        return {"parcels": _parcels(grid, mask)}
    return {
        name: Atlas(
            np.where(mask, _on_grid(path, name, grid), 0).astype(np.int16),
            ("Background", *_NAMES[name]),
            "Harvard-Oxford, maximum probability above 25 %",
        )
        for name, path in files.items()
    }


def find_atlas_files(config: AtlasConfig) -> dict[str, Path]:
    """Return the Harvard-Oxford files of the first folder that holds them; empty if none does.

    Raises
    ------
    ConfigError
        If the configured folder holds none.
    """
    for folder in [config.path] if config.path is not None else _folders():
        found = {name: folder / file for name, file in FILES.items() if (folder / file).is_file()}
        if "harvard_oxford_cortical" in found:
            return found
    if config.path is not None:
        raise ConfigError(
            f"atlas.path has no {FILES['harvard_oxford_cortical']}",
            where=config.path,
            remedy="give the folder with FSL's HarvardOxford NIfTI files, or null",
        )
    return {}


def atlas_identity(config: AtlasConfig) -> dict[str, Any]:
    """Return what tells one choice of atlases from another (names and hashes)."""
    files = find_atlas_files(config)
    if not files:
        return {"parcels": _PARCELS_VERSION}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def atlas_folders() -> list[Path]:
    """Return the folders in which the atlas is looked for, the last one the user's own."""
    return list(_folders())


def read_labels(path: Path, name: str) -> nib.Nifti1Image:
    """Read an atlas file.

    Raises
    ------
    DataError
        If it is damaged or not the expected atlas.
    """
    import nibabel as nib

    try:
        image = nib.load(path)
        assert isinstance(image, nib.Nifti1Image)
        labels = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise DataError(
            f"cannot be read ({error})", where=path, remedy="get the atlas again"
        ) from None
    if labels.ndim != 3 or labels.max() > len(_NAMES[name]):
        raise DataError(
            f"not the expected atlas: shape {labels.shape}, labels up to {labels.max()}, "
            f"{len(_NAMES[name])} regions have names",
            where=path,
            remedy="use FSL's maxprob-thr25-2mm files",
        )
    return image


def _folders() -> Iterator[Path]:
    if "FSLDIR" in os.environ:
        yield Path(os.environ["FSLDIR"]) / _IN_FSL
    for variable in ("NILEARN_DATA", "NILEARN_SHARED_DATA"):
        for folder in filter(None, os.environ.get(variable, "").split(os.pathsep)):
            yield Path(folder) / "fsl" / _IN_FSL
    yield Path.home() / "nilearn_data" / "fsl" / _IN_FSL


def _on_grid(path: Path, name: str, grid: tuple[int, int, int]) -> np.ndarray:
    """Nearest label at each voxel of the grid."""
    image = read_labels(path, name)
    labels = np.asarray(image.dataobj)
    to_index = np.linalg.inv(image.affine) @ grid_affine(grid)
    voxels = np.indices(grid).reshape(3, -1)
    index = np.rint(to_index[:3, :3] @ voxels + to_index[:3, 3:]).astype(int)
    inside = ((index >= 0) & (index < np.array(labels.shape)[:, None])).all(axis=0)
    sampled = np.zeros(voxels.shape[1], np.int16)
    sampled[inside] = labels[tuple(index[:, inside])]
    return sampled.reshape(grid)


def _parcels(grid: tuple[int, int, int], mask: np.ndarray) -> Atlas:
    """Cut the mask into compact parcels, the right side the mirror image of the left."""
    from scipy.cluster.vq import kmeans2, vq

    from eeg2fmri_dist.store import Atlas

    affine = grid_affine(grid)
    voxels = np.argwhere(mask)
    mm = voxels @ affine[:3, :3].T + affine[:3, 3]
    is_left = mm[:, 0] < 0
    folded = np.column_stack([np.abs(mm[:, 0]), mm[:, 1:]])
    centers, _ = kmeans2(folded[is_left], _PARCELS_PER_HEMISPHERE, minit="++", seed=0)
    centers = centers[np.lexsort(centers.T)]
    parcel, _ = vq(folded, centers)
    labels = np.zeros(grid, np.int16)
    labels[tuple(voxels.T)] = 1 + parcel + np.where(is_left, 0, len(centers))
    names = [f"Parcel {side} {k + 1:02d}" for side in "LR" for k in range(len(centers))]
    return Atlas(labels, ("Background", *names), "parcels cut from the brain mask")
