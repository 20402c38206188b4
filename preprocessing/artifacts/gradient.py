"""Gradient artifact of EEG recorded during MRI: finding it, and subtracting its average.

Average artifact subtraction (Allen, Josephs and Turner 2000, NeuroImage 12:230-239), as in
`mne.preprocessing.remove_fmri_gradient_artifact`: from each volume's EEG the mean of its
neighbors is subtracted. It is applied to the band-passed, decimated signal, not to the recorded
one. Filter and average are linear, so their order does not matter to what is left in the pass-band;
this one is a fraction of the work, needs no detrending, and leaves no steps between volumes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.polynomial import Polynomial

from eeg2fmri_dist.errors import DataError

# More than this share of a signal's power is never locked to the volumes by chance.
LOCKED_SHARE = 0.5
# Triggers may jitter so much around the scanner's own even pace.
MAX_JITTER_S = 1e-3
_SPLINE_ORDER = 5
_SPLINE_MARGIN = 16  # samples; a spline's far samples do not count


def even_onsets(onsets: np.ndarray, sfreq_hz: float, where: Path) -> np.ndarray:
    """Onsets of volumes on a straight line, between samples.

    The scanner keeps an even pace; that markers stray from it by their sampling, or by a slow
    trigger line, is no movement of the artifact.

    Parameters
    ----------
    onsets : array (volume,) of int
        Markers, in samples.
    sfreq_hz : float
        Sampling rate in Hz.
    where : Path
        The recording, for messages.

    Returns
    -------
    array (volume,) of float64
        In samples.

    Raises
    ------
    DataError
        If a marker lies more than `MAX_JITTER_S` (and one sample) off the line.
    """
    volumes = np.arange(len(onsets))
    line = Polynomial.fit(volumes, onsets, 1)(volumes)
    jitter_s = np.abs(onsets - line) / sfreq_hz
    if jitter_s.max() > max(MAX_JITTER_S, 1 / sfreq_hz):
        volume = int(jitter_s.argmax())
        raise DataError(
            f"the volume markers are too irregular to average the gradient artifact: that of "
            f"volume {volume} (counted from 0, at {onsets[volume] / sfreq_hz:.3f} s) lies "
            f"{1e3 * jitter_s[volume]:.1f} ms off an even pace, "
            f"{1e3 * MAX_JITTER_S:g} ms are let through",
            where=where,
            remedy="correct the marker file, or set eeg.gradient_artifact.remove: false for EEG "
            "that is corrected already",
        )
    return line


def check_enough_volumes(n_volumes: int, n_neighbors: int, where: Path) -> None:
    """Refuse a recording that is too short for the average.

    Raises
    ------
    DataError
        If there are fewer than `n_neighbors` volumes beside each.
    """
    if n_volumes <= n_neighbors:
        raise DataError(
            f"{n_volumes} volumes are too few to average the gradient artifact over "
            f"{n_neighbors} neighbors of each",
            where=where,
            remedy=f"set eeg.gradient_artifact.volumes to at most {(n_volumes - 1) // 2 * 2}, or "
            "eeg.gradient_artifact.remove: false for EEG that is corrected already",
        )


def locked_share(signal: np.ndarray, onsets: np.ndarray, length: int) -> float:
    """Share of the power that repeats with the volumes, median over channels.

    About 1 / volumes without a gradient artifact, close to 1 with one.

    Parameters
    ----------
    signal : array (channel, sample)
        Band-passed.
    onsets : array (volume,) of int
        In samples of the signal.
    length : int
        Samples of a volume.

    Returns
    -------
    float
    """
    volumes = np.stack([signal[:, onset : onset + length] for onset in onsets])
    total = np.maximum(np.mean(volumes**2, axis=(0, 2)), np.finfo(np.float32).tiny)
    return float(np.median(np.mean(volumes.mean(axis=0) ** 2, axis=1) / total))


def neighbor_weights(n_volumes: int, n_neighbors: int) -> np.ndarray:
    """Weights with which neighboring volumes make up the artifact of each.

    Away from the ends the plain mean over half the neighbors before and half behind, which is
    MNE's. Toward the ends, where MNE subtracts nothing, the neighbors are those that there are,
    and a straight line through them takes the place of their mean: a slowly changing artifact is
    met at the volume itself, not in the middle of its neighbors.

    Parameters
    ----------
    n_volumes : int
        More than `n_neighbors`.
    n_neighbors : int
        Even.

    Returns
    -------
    array (volume, volume) of float32
        Rows sum to 1, the diagonal is 0.
    """
    weights = np.zeros((n_volumes, n_volumes))
    for volume in range(n_volumes):
        first = np.clip(volume - n_neighbors // 2, 0, n_volumes - 1 - n_neighbors)
        others = np.arange(first, first + n_neighbors + 1)
        others = others[others != volume]
        offset = others - others.mean()
        slope = (volume - others.mean()) / np.sum(offset**2)
        weights[volume, others] = 1 / n_neighbors + slope * offset
    return weights.astype(np.float32)


def subtract_average(signal: np.ndarray, onsets: np.ndarray, n_neighbors: int) -> None:
    """Subtract from each volume the average of its neighbors, in place.

    Where volumes begin between samples, the average is taken and subtracted at their true phase (by
    spline interpolation; the signal is band-limited).

    Parameters
    ----------
    signal : array (channel, sample) of float32
        Band-passed far below its Nyquist rate. All volumes lie in it whole.
    onsets : array (volume,) of float64
        Even onsets, in samples.
    n_neighbors : int
        Volumes in the average.
    """
    length = int(np.ceil(np.diff(onsets).mean() - 1e-3))
    weights = neighbor_weights(len(onsets), n_neighbors)
    starts = np.ceil(onsets - 1e-6).astype(int)
    fractions = starts - onsets
    # A volume ends where the next begins.
    ends = np.append(starts[1:], min(starts[-1] + length, signal.shape[1]))
    between_samples = np.abs(fractions).max() > 1e-3
    for channel in signal:
        artifact = _average(channel, starts, fractions, length, weights, between_samples)
        for start, end, template in zip(starts, ends, artifact, strict=True):
            channel[start:end] -= template[: end - start]


def _average(
    channel: np.ndarray,
    starts: np.ndarray,
    fractions: np.ndarray,
    length: int,
    weights: np.ndarray,
    between_samples: bool,
) -> np.ndarray:
    """Artifact (volume, length) of one channel at the samples of each volume."""
    if not between_samples:
        return weights @ channel[starts[:, None] + np.arange(length)]
    margin = _SPLINE_MARGIN
    grid = np.arange(-margin, length + margin)
    inside = np.clip(starts[:, None] + grid, 0, len(channel) - 1)
    in_phase = _shifted(channel[inside], -fractions)
    return _shifted(weights @ in_phase, fractions)[:, margin : margin + length]


def _shifted(rows: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Rows read `shift` samples later each; their outermost samples are not to be used."""
    from scipy.ndimage import map_coordinates, spline_filter1d

    coefficients = spline_filter1d(rows.ravel(), order=_SPLINE_ORDER, output=np.float32)
    positions = np.arange(rows.size).reshape(rows.shape) + shift[:, None]
    shifted = map_coordinates(
        coefficients, positions.reshape(1, -1), order=_SPLINE_ORDER, prefilter=False
    )
    return shifted.reshape(rows.shape).astype(np.float32)
