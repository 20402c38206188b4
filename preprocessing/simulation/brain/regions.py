"""Brain regions that produce EEG and BOLD: positions, networks, parcels in template space.

Parcels are geometric: a voxel of the brain belongs to the nearest region center.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preprocessing.template.mni import load_brain_mask

if TYPE_CHECKING:
    import nibabel as nib

BANDS = ("delta", "theta", "alpha", "beta")
PARCEL_RADIUS_MM = 26.0


@dataclass(frozen=True)
class Network:
    """Regions whose activity rises and falls together.

    Attributes
    ----------
    name : str
    moment : tuple of float
        Source strength in delta, theta, alpha and beta, relative to an occipital alpha source.
    coupling : tuple of float
        Population weight of delta, theta, alpha and beta power in BOLD, before region differences.
    """

    name: str
    moment: tuple[float, float, float, float]
    coupling: tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """A patch of cortex.

    Attributes
    ----------
    name : str
        With ``left`` or ``right``.
    network : Network
    center_mm : ndarray of shape (3,)
        MNI mm.
    """

    name: str
    network: Network
    center_mm: np.ndarray


# More alpha power goes with less BOLD (Laufs et al., NeuroImage 2003; Scheeringa et al., NeuroImage
# 2009); the other signs and all numbers are ours.
_VISUAL = Network("visual", (0.5, 0.4, 1.0, 0.25), (0.15, 0.15, -1.0, 0.2))
_DEFAULT = Network("default", (0.6, 0.6, 0.7, 0.25), (-0.2, -0.3, -0.8, 0.3))
_MOTOR = Network("sensorimotor", (0.5, 0.4, 0.6, 0.5), (0.15, 0.15, -0.5, -0.9))
_CONTROL = Network("frontoparietal", (0.6, 0.7, 0.5, 0.4), (0.2, 0.9, -0.4, 0.3))
_AUDITORY = Network("auditory", (0.6, 0.5, 0.5, 0.3), (0.9, 0.3, -0.4, 0.2))

# Centers of the right hemisphere; the left one is its mirror image.
_RIGHT_MM = {
    "occipital pole": (_VISUAL, (14, -92, 4)),
    "lateral occipital": (_VISUAL, (40, -74, 14)),
    "precuneus": (_DEFAULT, (10, -60, 38)),
    "angular": (_DEFAULT, (50, -54, 34)),
    "medial prefrontal": (_DEFAULT, (10, 52, 18)),
    "central": (_MOTOR, (42, -20, 54)),
    "supplementary motor": (_MOTOR, (9, -6, 62)),
    "superior parietal": (_CONTROL, (28, -54, 60)),
    "dorsolateral prefrontal": (_CONTROL, (40, 32, 34)),
    "superior temporal": (_AUDITORY, (58, -22, 4)),
    "inferior frontal": (_AUDITORY, (50, 20, 8)),
}

REGIONS = tuple(
    Region(f"{side} {name}", network, np.array([sign * x, y, z], dtype=float))
    for name, (network, (x, y, z)) in _RIGHT_MM.items()
    for side, sign in (("left", -1), ("right", 1))
)
NETWORKS = tuple(dict.fromkeys(region.network for region in REGIONS))


@functools.cache
def region_labels() -> nib.Nifti1Image:
    """Return parcels on the template grid, (91, 109, 91) uint8.

    0 = none, n = ``REGIONS[n - 1]``.
    """
    import nibabel as nib
    from scipy.spatial import cKDTree

    mask = load_brain_mask()
    inside = np.asarray(mask.dataobj) > 0
    points_mm = nib.affines.apply_affine(mask.affine, np.argwhere(inside))
    tree = cKDTree(np.stack([region.center_mm for region in REGIONS]))
    distance_mm, nearest = tree.query(points_mm)
    labels = np.zeros(mask.shape, dtype=np.uint8)
    labels[inside] = np.where(distance_mm <= PARCEL_RADIUS_MM, nearest + 1, 0)
    return nib.Nifti1Image(labels, mask.affine)
