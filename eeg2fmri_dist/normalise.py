"""Numbers as stored -> numbers a model sees, and back.

Two kinds of BOLD target. ``voxelwise``: each voxel's time course of a recording, freed from a
polynomial trend, in units of its own standard deviation. ``global`` (Bruno et al., JHJA 3(1),
2025): all volumes with one mean and one deviation, so that anatomy is nearly all of the variance.

Whatever is fitted over several recordings is fitted on training recordings only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.splits import Segment
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

    def standardise(self, bold: np.ndarray, start: int) -> np.ndarray:
        """Return the temporal z-score of volumes that begin at TR `start` of the recording."""
        slow = self.slow(start, start + len(bold))
        standardised = np.subtract(bold, slow, out=slow)
        standardised *= self._scale
        return standardised

    @functools.cached_property
    def _scale(self) -> np.ndarray:
        """1 / std, 0 where there is none, (x, y, z)."""
        return np.divide(1.0, self.std, out=np.zeros_like(self.std), where=self.std > 0)


def fit_trend(store: Store, segment: Segment, order: int) -> Trend:
    """Fit the polynomial of one segment's voxels in one pass, a block of volumes at a time."""
    length = segment.stop - segment.start
    basis = polynomial_basis(length, order)
    coefficients = np.zeros((basis.shape[1], *store.grid))
    squares = np.zeros(store.grid)
    for start, bold in _blocks(store, segment):
        coefficients += np.tensordot(basis[start : start + len(bold)].T, bold, axes=1)
        squares += np.einsum("txyz,txyz->xyz", bold, bold, dtype=np.float64)
    left = np.maximum(squares - (coefficients**2).sum(axis=0), 0.0)
    # Below this the difference of two large sums is rounding noise of a constant voxel.
    std = np.sqrt(np.where(left > 1e-9 * squares, left, 0.0) / length)
    mean = coefficients[0] / np.sqrt(length)
    return Trend(
        basis.astype(np.float32),
        coefficients.astype(np.float32),
        mean.astype(np.float32),
        std.astype(np.float32),
    )


def polynomial_basis(length: int, order: int) -> np.ndarray:
    """Return orthonormal polynomials of degree 0 to `order` over `length` points."""
    time = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    vandermonde = np.polynomial.legendre.legvander(time, min(order, length - 1))
    basis, upper = np.linalg.qr(vandermonde)
    return basis * np.sign(np.diag(upper))


def fit_scaling(store: Store, segments: Sequence[Segment], config: DataConfig) -> Scaling:
    """Fit on the training segments what several recordings share."""
    count, total, squares = 0, np.zeros(store.grid), 0.0
    within = 0.0
    lowest, highest = np.inf, -np.inf
    fractions = []
    for segment in segments:
        trend = fit_trend(store, segment, config.detrend_order)
        fractions.append(_ratio(trend.std, trend.mean))
        length = segment.stop - segment.start
        recording_total, recording_squares = np.zeros(store.grid), 0.0
        for _, bold in _blocks(store, segment):
            recording_total += bold.sum(axis=0, dtype=np.float64)
            recording_squares += float(np.square(bold, dtype=np.float64).sum())
            lowest, highest = min(lowest, float(bold.min())), max(highest, float(bold.max()))
        within += recording_squares - float((recording_total**2).sum()) / length
        count, total, squares = count + length, total + recording_total, squares + recording_squares
    values = count * total.size
    mean = float(total.sum()) / values
    variance = squares / values - mean**2
    eeg_mean, eeg_std = _eeg_statistics(store, segments, config)
    return Scaling(
        reference=(total / count).astype(np.float32),
        fraction=np.mean(fractions, axis=0).astype(np.float32),
        bold_mean=mean,
        bold_std=float(np.sqrt(variance)),
        temporal_share=float(within / values / variance),
        bold_min=lowest,
        bold_max=highest,
        eeg_mean=eeg_mean,
        eeg_std=eeg_std,
    )


def normalise_eeg(power: np.ndarray, config: DataConfig, scaling: Scaling) -> np.ndarray:
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
    if config.eeg_normalise == "recording":
        mean, std = scaled.mean(axis=0), scaled.std(axis=0)
    return _ratio(scaled - mean, std).astype(np.float32)


def scale_eeg(power: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return log power or power, by config; it must have been chosen."""
    if config.eeg_scale == "auto":
        raise ValueError("eeg_scale is auto: nothing has chosen log or power")
    if config.eeg_scale == "power":
        return np.asarray(power, dtype=np.float32)
    return np.log(np.maximum(power, _SMALLEST_POWER_UV2))


def _eeg_statistics(
    store: Store, segments: Sequence[Segment], config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    scaled = np.concatenate(
        [scale_eeg(store.eeg(segment.start, segment.stop), config) for segment in segments]
    )
    return scaled.mean(axis=0), scaled.std(axis=0)


def _blocks(store: Store, segment: Segment):
    for start in range(segment.start, segment.stop, _VOLUMES_PER_READ):
        stop = min(start + _VOLUMES_PER_READ, segment.stop)
        yield start - segment.start, store.bold(start, stop)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    bottom = np.broadcast_to(bottom, top.shape)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def to_volumes(normalised: np.ndarray, config: DataConfig, scaling: Scaling) -> np.ndarray:
    """Return volumes in stored units from normalised ones, without knowing the subject's BOLD.

    ``voxelwise``: reference image x (1 + predicted fraction of change), the reference being the
    mean image of the training recordings. ``global``: the z-score undone.

    Parameters
    ----------
    normalised : ndarray of shape (volume, x, y, z)
        What a model predicts.
    config : DataConfig
        Kind of normalisation.
    scaling : Scaling
        Statistics of the training recordings.
    """
    if config.normalise == "global":
        return (normalised * scaling.bold_std + scaling.bold_mean).astype(np.float32)
    return scaling.reference * (1 + scaling.fraction * normalised).astype(np.float32)


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
