"""Numbers as stored -> numbers a model sees, and back.

Two kinds of BOLD target. ``voxelwise``: each voxel's time course of a recording, detrended by
a polynomial, in units of its own standard deviation. ``global`` (Bruno et al., JHJA 3(1),
2025): all volumes with one mean and one deviation, so that anatomy is nearly all of the variance.

Whatever is fitted over several recordings is fitted on training recordings only. Volumes are 0
outside the store's mask, so sums are taken inside it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.store import Store

_SMALLEST_POWER_UV2 = 1e-6
_VOLUMES_PER_READ = 64

_LARGEST_CHANGE = 0.5


@dataclass(frozen=True)
class Scaling:
    """What training recordings tell about scale.

    Attributes
    ----------
    reference : ndarray of shape (x, y, z)
        Mean image of the training recordings, in stored units.
    fraction : ndarray of shape (x, y, z)
        Mean over training recordings of temporal standard deviation / mean: the size of one unit
        of a voxelwise target, as a fraction of the reference image.
    bold_mean, bold_std : float
        Of all voxels of all training volumes (paper's z-score).
    temporal_share : float
        Share of that variance which is temporal, within recordings.
    bold_min, bold_max : float
        Smallest and largest stored value of the training volumes.
    eeg_mean, eeg_std : ndarray of shape (channel, frequency)
        Of scaled (log) EEG features over the training recordings.
    """

    reference: np.ndarray
    fraction: np.ndarray
    bold_mean: float
    bold_std: float
    temporal_share: float
    bold_min: float
    bold_max: float
    eeg_mean: np.ndarray
    eeg_std: np.ndarray


@dataclass(frozen=True)
class Trend:
    """Slow part and scale of one recording's BOLD.

    Attributes
    ----------
    basis : ndarray of shape (volume, order + 1)
        Orthonormal polynomials over the recording.
    coefficients : ndarray of shape (order + 1, x, y, z)
        Of each voxel's time course.
    mean, std : ndarray of shape (x, y, z)
        Temporal mean; standard deviation of what the polynomial leaves, 0 outside the mask.
    """

    basis: np.ndarray
    coefficients: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def slow(self, start: int, stop: int) -> np.ndarray:
        """Return the polynomial part of volumes `start` to `stop`, (volume, x, y, z)."""
        return np.tensordot(self.basis[start:stop], self.coefficients, axes=1)

    def standardize(self, bold: np.ndarray, start: int) -> np.ndarray:
        """Return the temporal z-score of volumes that begin at TR `start` of the recording."""
        slow = self.slow(start, start + len(bold))
        standardized = np.subtract(bold, slow, out=slow)
        standardized *= self._scale
        return standardized

    @functools.cached_property
    def _scale(self) -> np.ndarray:
        """1 / std, 0 where there is none, (x, y, z)."""
        return np.divide(1.0, self.std, out=np.zeros_like(self.std), where=self.std > 0)


def fit_trend(store: Store, segment: Segment, order: int) -> Trend:
    """Fit the polynomial of one segment's voxels in one pass, a block of volumes at a time."""
    return _trend(_sum_volumes(store, segment, order))


@dataclass(frozen=True)
class _Sums:
    """What one pass over a recording's volumes leaves; voxels are those of the mask.

    `squares` and the rows of `coefficients`, of (order + 1, voxel), are in float64.
    """

    mask: np.ndarray
    basis: np.ndarray
    coefficients: np.ndarray
    squares: np.ndarray
    lowest: float
    highest: float

    @property
    def total(self) -> np.ndarray:
        """Sum over volumes, (voxel,)."""
        return self.coefficients[0] * np.sqrt(len(self.basis))

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Put values (..., voxel) onto the grid as float32, 0 outside the mask."""
        return _on_grid(values, self.mask)


def _on_grid(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    grid = np.zeros((*values.shape[:-1], *mask.shape), np.float32)
    grid[..., mask] = values
    return grid


def _sum_volumes(store: Store, segment: Segment, order: int) -> _Sums:
    mask = store.layout.mask.astype(bool)
    inside = np.flatnonzero(mask)
    basis = polynomial_basis(segment.stop - segment.start, order)
    coefficients, squares = np.zeros((basis.shape[1], len(inside))), np.zeros(len(inside))
    lowest, highest = np.inf, -np.inf
    for start, bold in _blocks(store, segment):
        series = bold.reshape(len(bold), -1)[:, inside].astype(np.float64)
        coefficients += basis[start : start + len(bold)].T @ series
        squares += np.einsum("tv,tv->v", series, series)
        lowest, highest = min(lowest, float(bold.min())), max(highest, float(bold.max()))
    return _Sums(mask, basis, coefficients, squares, lowest, highest)


def _trend(sums: _Sums) -> Trend:
    length = len(sums.basis)
    left = np.maximum(sums.squares - (sums.coefficients**2).sum(axis=0), 0.0)
    # Below this the difference of two large sums is rounding noise of a constant voxel.
    std = np.sqrt(np.where(left > 1e-9 * sums.squares, left, 0.0) / length)
    return Trend(
        sums.basis.astype(np.float32),
        sums.on_grid(sums.coefficients),
        sums.on_grid(sums.total / length),
        sums.on_grid(std),
    )


def polynomial_basis(length: int, order: int) -> np.ndarray:
    """Return orthonormal polynomials of degree 0 to `order` over `length` points."""
    time = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    vandermonde = np.polynomial.legendre.legvander(time, min(order, length - 1))
    basis, upper = np.linalg.qr(vandermonde)
    return basis * np.sign(np.diag(upper))


def fit_scaling(store: Store, segments: Sequence[Segment], config: DataConfig) -> Scaling:
    """Fit on the training segments what several recordings share."""
    return sum_for_scaling(store, segments, config).scaling()


@dataclass(frozen=True)
class ScalingSums:
    """Sums over recordings from which `Scaling` follows; those of several ranks can be added.

    Attributes
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Of the store.
    recordings, volumes : int
        How many.
    total : ndarray of shape (voxel,)
        Sum over volumes, inside the mask.
    squares, within : float
        Sum of squares of all voxels; the same around each recording's mean image.
    fractions : ndarray of shape (x, y, z)
        Sum over recordings of temporal standard deviation / mean.
    lowest, highest : float
        Of all stored values.
    eeg, eeg_squares : ndarray of shape (channel, frequency)
        Sums over TRs of scaled EEG features and of their squares.
    """

    mask: np.ndarray
    recordings: int
    volumes: int
    total: np.ndarray
    squares: float
    within: float
    fractions: np.ndarray
    lowest: float
    highest: float
    eeg: np.ndarray
    eeg_squares: np.ndarray

    def __add__(self, other: ScalingSums) -> ScalingSums:
        """Return the sums over the recordings of both."""
        return ScalingSums(
            self.mask,
            self.recordings + other.recordings,
            self.volumes + other.volumes,
            self.total + other.total,
            self.squares + other.squares,
            self.within + other.within,
            self.fractions + other.fractions,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.eeg + other.eeg,
            self.eeg_squares + other.eeg_squares,
        )

    def scaling(self) -> Scaling:
        """Return what the recordings tell about scale."""
        values = self.volumes * self.mask.size
        mean = float(self.total.sum()) / values
        variance = self.squares / values - mean**2
        eeg_mean = self.eeg / self.volumes
        eeg_variance = np.maximum(self.eeg_squares / self.volumes - eeg_mean**2, 0.0)
        return Scaling(
            reference=_on_grid(self.total / self.volumes, self.mask),
            fraction=(self.fractions / self.recordings).astype(np.float32),
            bold_mean=mean,
            bold_std=float(np.sqrt(variance)),
            temporal_share=self.within / values / variance,
            bold_min=self.lowest,
            bold_max=self.highest,
            eeg_mean=eeg_mean.astype(np.float32),
            eeg_std=np.sqrt(eeg_variance).astype(np.float32),
        )


def sum_for_scaling(store: Store, segments: Sequence[Segment], config: DataConfig) -> ScalingSums:
    """Return the sums over segments, in memory for one of them; of none, zeros."""
    mask = store.layout.mask.astype(bool)
    eeg_shape = (len(store.layout.channel_names), len(store.layout.frequencies_hz))
    inside, grid, eeg = np.zeros(int(mask.sum())), np.zeros(mask.shape), np.zeros(eeg_shape)
    nothing = ScalingSums(mask, 0, 0, inside, 0.0, 0.0, grid, np.inf, -np.inf, eeg, eeg)
    of_each = (_sum_recording(store, segment, config) for segment in segments)
    return functools.reduce(operator.add, of_each, nothing)


def _sum_recording(store: Store, segment: Segment, config: DataConfig) -> ScalingSums:
    sums = _sum_volumes(store, segment, config.detrend_order)
    trend, length = _trend(sums), len(sums.basis)
    squares = float(sums.squares.sum())
    eeg = scale_eeg(store.eeg(segment.start, segment.stop), config).astype(np.float64)
    return ScalingSums(
        sums.mask,
        1,
        length,
        sums.total,
        squares,
        squares - float((sums.total**2).sum()) / length,
        _ratio(trend.std, trend.mean).astype(np.float64),
        sums.lowest,
        sums.highest,
        eeg.sum(axis=0),
        np.square(eeg).sum(axis=0),
    )


def normalize_eeg(power: np.ndarray, config: DataConfig, scaling: Scaling) -> np.ndarray:
    """Return EEG features as a model sees them.

    Parameters
    ----------
    power : ndarray of shape (volume, channel, frequency)
        A whole recording, as stored (uV^2).
    config : DataConfig
        Scale (log or power) and whose statistics: the recording's own, which need no BOLD and so
        are known for test subjects too, or those of the training recordings.
    scaling : Scaling
        Statistics of the training recordings.
    """
    scaled = scale_eeg(power, config)
    mean, std = scaling.eeg_mean, scaling.eeg_std
    if config.eeg_normalize == "recording":
        mean, std = scaled.mean(axis=0), scaled.std(axis=0)
    return _ratio(scaled - mean, std).astype(np.float32)


def scale_eeg(power: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return log power or power, by config; it must have been chosen."""
    if config.eeg_scale == "auto":
        raise ValueError("eeg_scale is auto: nothing has chosen log or power")
    if config.eeg_scale == "power":
        return np.asarray(power, dtype=np.float32)
    return np.log(np.maximum(power, _SMALLEST_POWER_UV2))


def _blocks(store: Store, segment: Segment):
    for start in range(segment.start, segment.stop, _VOLUMES_PER_READ):
        stop = min(start + _VOLUMES_PER_READ, segment.stop)
        yield start - segment.start, store.bold(start, stop)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    bottom = np.broadcast_to(bottom, top.shape)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def to_volumes(normalized: np.ndarray, config: DataConfig, scaling: Scaling) -> np.ndarray:
    """Return volumes in stored units from normalized ones, without knowing the subject's BOLD.

    ``voxelwise``: reference image x (1 + predicted fraction of change), the reference being the
    mean image of the training recordings. ``global``: the z-score undone.

    Parameters
    ----------
    normalized : ndarray of shape (volume, x, y, z)
        What a model predicts.
    config : DataConfig
        Kind of normalization.
    scaling : Scaling
        Statistics of the training recordings.
    """
    if config.normalize == "global":
        return (normalized * scaling.bold_std + scaling.bold_mean).astype(np.float32)
    return scaling.reference * (1 + scaling.fraction * normalized).astype(np.float32)


def around(
    image: np.ndarray,
    volumes: np.ndarray,
    reference: np.ndarray,
    scale: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Move volumes from one mean image to another; each voxel's percent change stays, or is scaled.

    Parameters
    ----------
    image : ndarray of shape (x, y, z)
        Where they belong, such as the mean of a calibration scan, in any unit.
    volumes : ndarray of shape (volume, x, y, z)
        Around `reference`.
    reference : ndarray of shape (x, y, z)
        Mean image of the training recordings.
    scale : ndarray of shape (x, y, z) or float
        What each voxel's change is multiplied by (`voxel_scale`).

    Returns
    -------
    ndarray of shape (volume, x, y, z), float32
        In the unit of `image`. A change of more than half counts as half: no BOLD does that, but
        a ratio of small numbers at the rim of the brain can.
    """
    ratio = np.divide(volumes, reference, out=np.ones_like(volumes), where=reference > 0)
    change = (scale * (ratio - 1)).clip(-_LARGEST_CHANGE, _LARGEST_CHANGE)
    return (image * (1 + change)).astype(np.float32)
