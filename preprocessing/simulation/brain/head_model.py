"""How sources in the brain appear at the scalp: a spherical head model and a 10-05 montage."""

from __future__ import annotations

import functools

import numpy as np

from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation.brain.regions import REGIONS

MONTAGE = "colin27_1005"
REFERENCE = "FCz"
OTHER_NAMES = {"I1": "O9", "I2": "O10"}  # the 10-05 system's names -> the cap's names
SCALP_CHANNELS = tuple(name for name in CHANNELS if name != "ECG")

# Share of the head's radius within which dipoles are kept: the brain's sphere ends at 0.90.
_DEEPEST, _SHALLOWEST = 0.40, 0.80
_POSITION_JITTER_MM = 2.0
_DIRECTION_JITTER = 0.15
_POPULATION_TILT = 0.5


def leadfield(
    population: np.random.Generator,
    subject: np.random.Generator,
    cap_shift_mm: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Return scalp potentials of one dipole per region, referenced to FCz.

    The four-shell sphere of `mne.make_sphere_model`, fitted to the montage. A region's dipole is
    roughly radial; tilts are shared by all subjects, small shifts and turns are a subject's own.
    A cap that sits `cap_shift_mm` too far to the front and to the left is turned on the head.

    Returns
    -------
    ndarray of shape (63, region), float32
        uV per nA m, channels in the order of NODDI without ECG.
    """
    import mne

    info, mri_to_head = _electrodes()
    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    positions, directions = _dipoles(population, subject, sphere, mri_to_head)
    n_regions = len(REGIONS)
    dipoles = mne.Dipole(
        times=np.arange(n_regions, dtype=float),
        pos=positions,
        amplitude=np.ones(n_regions),
        ori=directions,
        gof=np.full(n_regions, 100.0),
        verbose="error",
    )
    if any(cap_shift_mm):
        info = _with_turned_cap(info, sphere, cap_shift_mm)
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="error")
    volts_per_am = forward["sol"]["data"]
    referenced = volts_per_am[:-1] - volts_per_am[-1]
    return (referenced * 1e-3).astype(np.float32)  # V / (A m) = 1e-3 uV / (nA m)


def electrode_offsets() -> np.ndarray:
    """Return the place of each scalp channel relative to the reference, (63, 3) in m."""
    info, _ = _electrodes()
    positions = np.stack([channel["loc"][:3] for channel in info["chs"]])
    return positions[:-1] - positions[-1]


@functools.cache
def _electrodes():
    """Measurement info with positions, and the transform of template mm to head coordinates."""
    import mne

    montage = mne.channels.make_standard_montage(MONTAGE)
    montage.rename_channels(OTHER_NAMES)
    names = [*SCALP_CHANNELS, REFERENCE]
    info = mne.create_info(names, sfreq=250.0, ch_types="eeg")
    info.set_montage(montage, verbose="error")
    return info, mne.channels.compute_native_head_t(montage, verbose="error")


def _with_turned_cap(info, sphere, cap_shift_mm: tuple[float, float]):
    """Measurement info with all electrodes turned about the sphere's middle."""
    from scipy.spatial.transform import Rotation

    turned = info.copy()
    front, left = np.array(cap_shift_mm) / 1000.0 / sphere.radius
    # Head coordinates: x to the right, y to the front, z up; shifts are those of the vertex.
    rotation = Rotation.from_rotvec([-front, -left, 0.0]).as_matrix()
    for channel in turned["chs"]:
        place = channel["loc"][:3] - sphere["r0"]
        channel["loc"][:3] = sphere["r0"] + rotation @ place
    return turned


def _dipoles(population, subject, sphere, mri_to_head) -> tuple[np.ndarray, np.ndarray]:
    import mne

    centers_mm = np.stack([region.center_mm for region in REGIONS])
    centers_mm = centers_mm + subject.normal(0, _POSITION_JITTER_MM, size=centers_mm.shape)
    offset = mne.transforms.apply_trans(mri_to_head, centers_mm / 1000.0) - sphere["r0"]
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    radial = offset / distance
    radius = sphere.radius
    kept = np.clip(distance, _DEEPEST * radius, _SHALLOWEST * radius)
    tilted = radial + _POPULATION_TILT * population.standard_normal(radial.shape)
    tilted += _DIRECTION_JITTER * subject.standard_normal(radial.shape)
    directions = tilted / np.linalg.norm(tilted, axis=1, keepdims=True)
    return sphere["r0"] + radial * kept, directions
