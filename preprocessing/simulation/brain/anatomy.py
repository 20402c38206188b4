"""What a subject's head looks like: EPI contrast on the BOLD grid, defaced T1 on its own grid."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from preprocessing.simulation.brain.geometry import epi_affine, voxel_centers
from preprocessing.simulation.brain.regions import region_labels
from preprocessing.template.head_map import HeadMap
from preprocessing.template.mni import load_brain_mask, load_template

EPI_SHAPE = (64, 64, 30)
EPI_VOXEL_MM = (3.3, 3.3, 4.0)
T1_SHAPE = (88, 120, 120)
T1_VOXEL_MM = (2.0, 2.0, 2.0)
BRAIN_INTENSITY = 1000.0

# Template intensities of CSF, gray and white matter, and how bright and how active each is in EPI.
_TEMPLATE_T1 = (2500.0, 3800.0, 5600.0, 6400.0, 7600.0)
_EPI_BRIGHTNESS = (1.45, 1.40, 1.05, 0.95, 0.75)
_GREY_MATTER = (0.0, 0.3, 1.0, 0.9, 0.25)
# Signal is lost above the nasal sinuses and the ear canals: center (MNI mm), radius (mm), share.
_DROPOUTS = (((0, 38, -22), 13.0, 0.9), ((46, -12, -36), 11.0, 0.7), ((-46, -12, -36), 11.0, 0.7))


@dataclass(frozen=True)
class Anatomy:
    """A subject's head on the grid of its BOLD run; all arrays in the voxel order of the file.

    Attributes
    ----------
    affine : ndarray of shape (4, 4)
        BOLD voxel -> scanner mm.
    mni_mm : ndarray of shape (x, y, z, 3), float32
        Where each BOLD voxel lies in MNI space.
    epi : ndarray of shape (x, y, z), float32
        Noise-free steady-state image.
    brain : ndarray of shape (x, y, z), bool
        The template's brain mask, carried over.
    labels : ndarray of shape (x, y, z), uint8
        Region of each voxel, 0 = none, n = ``REGIONS[n - 1]``.
    grey_matter : ndarray of shape (x, y, z), float32
        Share of the region's neural signal that a voxel shows, 0 to 1.
    csf : ndarray of shape (x, y, z), float32
        0 to 1; where pulsation is strongest.
    """

    affine: np.ndarray
    mni_mm: np.ndarray
    epi: np.ndarray
    brain: np.ndarray
    labels: np.ndarray
    grey_matter: np.ndarray
    csf: np.ndarray


def build_anatomy(rng: np.random.Generator, head_map: HeadMap) -> Anatomy:
    """Carry the template into the subject's head and give it EPI contrast."""
    affine = epi_affine(rng, head_map, EPI_SHAPE, EPI_VOXEL_MM)
    scanner_mm = voxel_centers(EPI_SHAPE, affine)
    mni_mm = head_map.to_mni(scanner_mm)
    template, mask, _ = _template()
    labels = np.asarray(region_labels().dataobj)

    t1 = _sample(_smoothed(template), mni_mm).reshape(EPI_SHAPE)
    brain = _sample(mask, mni_mm).reshape(EPI_SHAPE)
    inside = _sample(_with_ventricles(mask), mni_mm).reshape(EPI_SHAPE)
    brain_signal = np.interp(t1, _TEMPLATE_T1, _EPI_BRIGHTNESS)
    scalp_signal = 0.25 * t1 / _TEMPLATE_T1[2]
    signal = inside * brain_signal + (1 - inside) * scalp_signal
    signal *= _dropout(mni_mm).reshape(EPI_SHAPE) * _bias(rng, EPI_SHAPE, strength=0.25)
    return Anatomy(
        affine=affine,
        mni_mm=mni_mm.reshape(*EPI_SHAPE, 3).astype(np.float32),
        epi=(BRAIN_INTENSITY * rng.uniform(0.85, 1.15) * signal).astype(np.float32),
        brain=brain >= 0.5,
        labels=_sample(labels, mni_mm, order=0).reshape(EPI_SHAPE),
        grey_matter=(brain * np.interp(t1, _TEMPLATE_T1, _GREY_MATTER)).astype(np.float32),
        csf=(inside * np.interp(t1, _TEMPLATE_T1[:3], (1.0, 0.7, 0.1))).astype(np.float32),
    )


def build_t1(rng: np.random.Generator, head_map: HeadMap) -> tuple[np.ndarray, np.ndarray]:
    """Return a T1-weighted image without face, (88, 120, 120) int16, and its affine."""
    affine = np.diag([*T1_VOXEL_MM, 1.0])
    center_mm = head_map.to_scanner(np.array([[0.0, -18.0, 6.0]]))[0]
    affine[:3, 3] = center_mm - np.array(T1_VOXEL_MM) * (np.array(T1_SHAPE) - 1) / 2
    mni_mm = head_map.to_mni(voxel_centers(T1_SHAPE, affine))
    template, _, _ = _template()
    image = _sample(template, mni_mm).reshape(T1_SHAPE) / 10.0
    image *= _bias(rng, T1_SHAPE, strength=0.15)
    image += rng.normal(0.0, 12.0, size=T1_SHAPE)
    image[_face(mni_mm).reshape(T1_SHAPE)] = 0
    return np.abs(image).astype(np.int16), affine


def _face(mni_mm: np.ndarray) -> np.ndarray:
    """Points before and below a plane under the frontal lobe, as defacing removes them."""
    return mni_mm[:, 1] - 1.2 * mni_mm[:, 2] > 95


def _dropout(mni_mm: np.ndarray) -> np.ndarray:
    signal = np.ones(len(mni_mm))
    for center_mm, radius_mm, share in _DROPOUTS:
        distance = np.linalg.norm(mni_mm - np.array(center_mm), axis=1)
        signal *= 1 - share * np.exp(-0.5 * (distance / radius_mm) ** 2)
    return signal


def _bias(rng: np.random.Generator, shape: tuple[int, int, int], strength: float) -> np.ndarray:
    """Receive-coil sensitivity: a smooth quadratic of position, `strength` at the edge."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    slopes, bends = rng.uniform(-1, 1, size=3), rng.uniform(0, 1, size=3)
    field = sum(
        slope * axis + bend * axis**2 for slope, bend, axis in zip(slopes, bends, axes, strict=True)
    )
    return np.exp(strength * (field - np.mean(field)))


@functools.cache
def _template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Template, its brain mask and its affine."""
    template, mask = load_template(), load_brain_mask()
    data = (np.asarray(image.dataobj, dtype=np.float32) for image in (template, mask))
    return *data, template.affine


def _with_ventricles(mask: np.ndarray) -> np.ndarray:
    """Close the holes that the template's brain mask has where the ventricles are."""
    from scipy.ndimage import binary_closing, binary_fill_holes

    return binary_fill_holes(binary_closing(mask > 0, iterations=4)).astype(np.float32)


def _smoothed(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, sigma=0.6)


def _sample(image: np.ndarray, mni_mm: np.ndarray, order: int = 1) -> np.ndarray:
    """Template image at MNI points, zero outside."""
    from scipy.ndimage import map_coordinates

    _, _, affine = _template()
    indices = (mni_mm - affine[:3, 3]) / np.diag(affine)[:3]
    return map_coordinates(image, indices.T, order=order, mode="constant", cval=0)
