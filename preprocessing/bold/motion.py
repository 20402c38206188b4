"""How the head moved during a run: six rigid parameters per volume, and framewise displacement."""

from __future__ import annotations

import numpy as np

# Names of the columns of what `RigidAligner.align` returns.
PARAMETERS = ("trans_x_mm", "trans_y_mm", "trans_z_mm", "rot_x_rad", "rot_y_rad", "rot_z_rad")
# Distance from the center of the head to the cortex (Power et al. 2012).
HEAD_RADIUS_MM = 50.0

_SMOOTHING_MM = 3.0  # s.d., 7 mm FWHM: measured to be the most exact on heads that move by 1 mm
_POINTS = 6000
_SPLINE = 2
_MOST_ITERATIONS = 20
# Ends within 1e-4 mm of where further steps lead.
_CONVERGED_MM = 2e-3


class RigidAligner:
    """Finds where the head lies in a volume, relative to a reference volume.

    Gauss-Newton on the squared difference of smoothed volumes at points in and around the brain,
    with the brightness of the volume as a seventh unknown (Friston et al. 1995, Human Brain
    Mapping 3:165; Cox & Jesmanowicz 1999, Magn Reson Med 42:1014). Motion is small and the
    reference is of the same run, so the derivatives are those of the reference and are inverted
    once. Some milliseconds a volume; a general registration takes a second.

    Parameters
    ----------
    reference : ndarray of shape (x, y, z)
        Volume whose position is "unmoved", such as the run's mean.
    affine : ndarray of shape (4, 4)
        Voxel index -> scanner mm (RAS).
    mask : ndarray of bool, shape (x, y, z)
        Brain in the reference.

    Attributes
    ----------
    center_mm : ndarray of shape (3,)
        Center of the brain, about which rotations turn.
    """

    def __init__(self, reference: np.ndarray, affine: np.ndarray, mask: np.ndarray):
        self._to_mm, self._to_index = affine, np.linalg.inv(affine)
        self._sigma = _SMOOTHING_MM / np.linalg.norm(affine[:3, :3], axis=0)
        index = _points(mask)
        at = tuple(index.T)
        points_mm = index @ affine[:3, :3].T + affine[:3, 3]
        self.center_mm = (np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]).mean(axis=0)
        self._offsets_mm = points_mm - self.center_mm
        smoothed = self._smoothed(reference)
        slopes = np.stack([part[at] for part in np.gradient(smoothed)], axis=1)
        slopes_mm = slopes @ self._to_index[:3, :3]
        turns = np.cross(self._offsets_mm, slopes_mm)
        brightness = smoothed[at]
        # The unknowns are millimeters on the head's surface, so that they are of one size.
        derivatives = np.column_stack([slopes_mm, turns / HEAD_RADIUS_MM, -brightness])
        self._solve = np.linalg.pinv(derivatives).astype(np.float32)

    def align(self, volumes: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Return the motion of volumes.

        Parameters
        ----------
        volumes : ndarray of shape (x, y, z, volume)
            Consecutive volumes on the grid of the reference.
        start : ndarray of shape (6,), optional
            Motion of the volume before them.

        Returns
        -------
        ndarray of shape (volume, 6), float64
            As `PARAMETERS` names them: a point x of the reference lies at
            ``R (x - center) + center + t`` in the volume; R is the rotation vector's matrix.
        """
        parameters = np.zeros((volumes.shape[3], 6))
        pose = np.zeros(6) if start is None else start
        for number in range(volumes.shape[3]):
            pose = self._align_one(self._smoothed(volumes[..., number]), pose)
            parameters[number] = pose
        return parameters

    def displaced_mm(self, points_mm: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Return where points (n, 3) of the reference lie in a volume with this motion (6,)."""
        return _move(points_mm - self.center_mm, parameters) + self.center_mm

    def _smoothed(self, volume: np.ndarray) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(np.asarray(volume, np.float32), self._sigma, truncate=3.0)

    def _align_one(self, smoothed: np.ndarray, start: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates, spline_filter
        from scipy.spatial.transform import Rotation

        # Linear interpolation blurs by where between voxels a point falls, and so draws to them.
        coefficients = spline_filter(smoothed, _SPLINE, np.float32, mode="nearest")
        pose = start
        for _ in range(_MOST_ITERATIONS):
            points_mm = _move(self._offsets_mm, pose) + self.center_mm
            index = points_mm @ self._to_index[:3, :3].T + self._to_index[:3, 3]
            values = map_coordinates(
                coefficients, index.T, order=_SPLINE, mode="nearest", prefilter=False
            )
            step = -(self._solve @ values)[:6]
            step[3:] /= HEAD_RADIUS_MM
            turned = Rotation.from_rotvec(pose[3:])
            pose = np.concatenate(
                [
                    pose[:3] + turned.apply(step[:3]),
                    (turned * Rotation.from_rotvec(step[3:])).as_rotvec(),
                ]
            )
            if np.abs(step[:3]).sum() + HEAD_RADIUS_MM * np.abs(step[3:]).sum() < _CONVERGED_MM:
                break
        return pose


def framewise_displacement_mm(parameters: np.ndarray) -> np.ndarray:
    """Return how far the head moved since the volume before, 0 for the first.

    Sum of the absolute changes of the translations and of the rotations as arcs on a sphere of
    50 mm (Power et al. 2012, NeuroImage 59:2142).

    Parameters
    ----------
    parameters : ndarray of shape (volume, 6)
        As `RigidAligner.align` returns them.

    Returns
    -------
    ndarray of shape (volume,)
    """
    change = np.abs(np.diff(parameters, axis=0, prepend=parameters[:1]))
    return change[:, :3].sum(axis=1) + HEAD_RADIUS_MM * change[:, 3:].sum(axis=1)


def motion_quality(parameters: np.ndarray) -> dict[str, float]:
    """Return ``fd_mean_mm``, ``fd_max_mm``, ``fd_share_above_0.5mm`` and the largest excursions.

    ``translation_range_mm`` and ``rotation_range_deg`` are the largest range along one axis.
    """
    moved_mm = framewise_displacement_mm(parameters)[1:]
    if not len(moved_mm):
        moved_mm = np.zeros(1)
    ranges = np.ptp(parameters, axis=0)
    return {
        "fd_mean_mm": float(moved_mm.mean()),
        "fd_max_mm": float(moved_mm.max()),
        "fd_share_above_0.5mm": float((moved_mm > 0.5).mean()),
        "translation_range_mm": float(ranges[:3].max()),
        "rotation_range_deg": float(np.rad2deg(ranges[3:].max())),
    }


def _points(mask: np.ndarray) -> np.ndarray:
    """Voxels (point, 3) in and just around the brain, off the faces of the volume, evenly thinned.

    The rim holds the steepest slopes; at the faces there is nothing to see when the head moves on.
    """
    from scipy.ndimage import binary_dilation

    around = binary_dilation(mask)
    for axis in range(3):
        if mask.shape[axis] > 4:
            np.moveaxis(around, axis, 0)[[0, -1]] = False
    index = np.argwhere(around)
    return index[:: max(1, len(index) // _POINTS)]


def _move(offsets_mm: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Turn offsets (n, 3) from the center and shift them."""
    from scipy.spatial.transform import Rotation

    turned: np.ndarray = Rotation.from_rotvec(parameters[3:]).apply(offsets_mm)
    return turned + parameters[:3]
