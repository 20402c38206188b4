"""Pulse (ballistocardiographic) artifact of EEG recorded during MRI.

Two methods describe the EEG around each heartbeat and subtract that description:

- ``head``: the mean beat, and what a beat can differ by in the whole head at once: the strength of
  each of the mean beat's main topographies and time courses, and their timing. These differences
  have few values per beat, not some per channel, which leaves little room for EEG to be fitted and
  lost; they are removed down to the power that EEG has along them between the beats. All this
  happens on whitened channels: strengths are then generalized least-squares estimates, to which
  the EEG's own topographies contribute least. Unwhitened, the EEG of strong channels leaks into the
  estimates and by them into channels with a weak EEG of their own.
- ``channel``: optimal basis sets (Niazy et al. 2005, NeuroImage 28:720-737) as in
  `mne.preprocessing.apply_pca_obs`: principal components of each channel for itself. They take
  strong rhythms of the brain for artifact: see docs/artifacts.md for what that costs.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError

DELAY_S = 0.21  # of the artifact behind the R peak (Niazy et al. 2005)
MIN_BEATS = 20
RATE_PER_MIN = (35.0, 180.0)
MAX_SPREAD = 0.4  # between the quartiles of the intervals, relative; noise has more
_CROSSFADE_S = 0.08
_BETWEEN_BEATS = (1 / 3, 2 / 3)  # where EEG is looked at apart from the beats
# Noise of each channel that is taken for granted, relative to the mean power: it keeps topographies
# without EEG, which a few minutes show too well, from deciding everything.
_OWN_NOISE = 0.1


def find_heartbeats(ecg: np.ndarray, sfreq_hz: float, where: Path) -> np.ndarray:
    """R peaks of an ECG channel, by `mne.preprocessing.find_ecg_events`; gaps are filled.

    Parameters
    ----------
    ecg : array (sample,)
        Band-passed, without gradient artifact.
    sfreq_hz : float
        Sampling rate in Hz.
    where : Path
        The recording, for messages.

    Returns
    -------
    array (beat,) of int
        In samples.

    Raises
    ------
    DataError
        If there are too few beats, or not at the pace of a heart.
    """
    import mne

    raw = mne.io.RawArray(
        ecg[None].astype(np.float64), mne.create_info(["ECG"], sfreq_hz, "ecg"), verbose="error"
    )
    beats = mne.preprocessing.find_ecg_events(raw, verbose="error")[0][:, 0]
    quartiles = np.quantile(np.diff(beats), (0.25, 0.5, 0.75)) if len(beats) > 1 else np.ones(3)
    spread = (quartiles[2] - quartiles[0]) / quartiles[1]
    per_min = 60 * sfreq_hz / quartiles[1]
    low, high = RATE_PER_MIN
    if len(beats) < MIN_BEATS or not low < per_min < high or spread > MAX_SPREAD:
        raise DataError(
            f"the ECG does not show a heart: {len(beats)} beats in {len(ecg) / sfreq_hz:.0f} s "
            f"({MIN_BEATS} are needed), typically {per_min:.0f} per minute, half of the intervals "
            f"within {100 * spread:.0f} % ({100 * MAX_SPREAD:.0f} % are let through)",
            where=where,
            remedy="look at the ECG channel; set eeg.pulse_artifact.remove: false to do without "
            "the correction",
        )
    return _with_missed_beats(np.abs(ecg), beats)


def _with_missed_beats(height: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Add the highest peaks near where beats should be, in gaps and at both ends.

    Every beat leaves an artifact: that of a missed one stays whole.
    """
    typical = float(np.median(np.diff(beats)))
    reach = round(0.25 * typical)
    expected = [*np.arange(beats[0] - typical, 0, -typical)]
    for before, after in itertools.pairwise(beats):
        n_missed = max(round((after - before) / typical) - 1, 0)
        expected += [*np.linspace(before, after, n_missed + 2)[1:-1]]
    expected += [*np.arange(beats[-1] + typical, len(height), typical)]
    firsts = [max(0, round(place) - reach) for place in expected]
    added = [first + height[first : first + 2 * reach].argmax() for first in firsts]
    return np.unique(np.concatenate([beats, np.array(added, dtype=beats.dtype)]))


def pulse_by_channel(
    signal: np.ndarray, sfreq_hz: float, beats: np.ndarray, n_components: int
) -> np.ndarray:
    """Pulse artifact as `mne.preprocessing.apply_pca_obs` finds it.

    Parameters
    ----------
    signal : array (channel, sample) of float32
        Band-passed scalp channels without gradient artifact.
    sfreq_hz : float
        Sampling rate in Hz.
    beats : array (beat,) of int
        R peaks in samples.
    n_components : int
        Principal components beside the mean beat.

    Returns
    -------
    array (channel, sample) of float32
    """
    import mne

    raw = mne.io.RawArray(
        signal.astype(np.float64), mne.create_info(len(signal), sfreq_hz, "eeg"), verbose="error"
    )
    centers_s = beats / sfreq_hz + DELAY_S
    mne.preprocessing.apply_pca_obs(
        raw,
        picks=raw.ch_names,
        qrs_times=centers_s[centers_s < raw.times[-1]],
        n_components=n_components,
        copy=False,
        verbose="error",
    )
    return signal - raw.get_data().astype(np.float32)


def pulse_of_head(
    signal: np.ndarray,
    sfreq_hz: float,
    beats: np.ndarray,
    n_components: int,
    background: np.ndarray,
) -> np.ndarray:
    """Pulse artifact: the mean beat, and how each beat differs from it in strength and timing.

    Parameters
    ----------
    signal : array (channel, sample) of float32
        Band-passed scalp channels without gradient artifact.
    sfreq_hz : float
        Sampling rate in Hz.
    beats : array (beat,) of int
        R peaks in samples.
    n_components : int
        Topographies and time courses of the mean beat (its singular vectors) that may vary.
    background : array (channel, sample) of float32
        The signal without pulse artifact, as far as it is known: channels are whitened by its
        covariance, and differences removed down to its power, so that the EEG along them is not
        lost.

    Returns
    -------
    array (channel, sample) of float32
    """
    centers = beats + round(DELAY_S * sfreq_hz)
    half = int(np.ceil(0.55 * np.quantile(np.diff(beats), 0.9)))
    whiten, unwhiten = _whitening(background)
    epochs = _epochs(whiten @ signal, centers, half)
    mean = epochs.mean(axis=0)
    patterns = _differences(mean, n_components)
    amplitudes = (epochs - mean).reshape(len(epochs), -1) @ patterns
    power, turn = np.linalg.eigh(amplitudes.T @ amplitudes / len(amplitudes))
    patterns, amplitudes = patterns @ turn, amplitudes @ turn
    interval = np.median(np.diff(beats))
    eeg = whiten @ background
    between = [_epochs(eeg, centers + round(p * interval), half) for p in _BETWEEN_BEATS]
    eeg_power = np.mean(
        (np.concatenate(between).reshape(-1, len(patterns)) @ patterns) ** 2, axis=0
    )
    # With more patterns than beats some have no power, but for a rounding error.
    amplitudes *= 1 - np.sqrt(np.minimum(eeg_power / np.maximum(power, 1e-6 * power[-1]), 1))
    artifact = np.broadcast_to(mean, (len(centers), *mean.shape)).copy()
    artifact[_whole(signal, centers, half)] += (amplitudes @ patterns.T).reshape(epochs.shape)
    return unwhiten @ _joined(
        artifact, centers, half, round(_CROSSFADE_S * sfreq_hz), signal.shape[1]
    )


def _whitening(eeg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric matrix (channel, channel) that makes channels unlike and equal; its inverse."""
    covariance = np.cov(eeg.astype(np.float64))
    powers, topographies = np.linalg.eigh(covariance)
    powers = np.maximum(powers, 0) + _OWN_NOISE * np.trace(covariance) / len(covariance)
    whiten = (topographies / np.sqrt(powers)) @ topographies.T
    unwhiten = (topographies * np.sqrt(powers)) @ topographies.T
    return whiten.astype(np.float32), unwhiten.astype(np.float32)


def _whole(signal: np.ndarray, centers: np.ndarray, half: int) -> np.ndarray:
    """Which beats lie within the signal."""
    return (centers >= half) & (centers + half < signal.shape[1])


def _epochs(signal: np.ndarray, centers: np.ndarray, half: int) -> np.ndarray:
    """Signal around those centers that lie within it, (beat, channel, sample)."""
    whole = centers[_whole(signal, centers, half)]
    return signal[:, whole[:, None] + np.arange(-half, half + 1)].transpose(1, 0, 2)


def _differences(mean: np.ndarray, n_components: int) -> np.ndarray:
    """Orthonormal patterns (channel x sample, pattern) by which a beat may differ from the mean."""
    topographies, sizes, courses = np.linalg.svd(mean, full_matrices=False)
    courses = sizes[:n_components, None] * courses[:n_components]
    # A course that comes earlier or later, to second order: hearts vary by more than the first.
    slopes = np.gradient(courses, axis=1)
    times = np.concatenate([courses, slopes, np.gradient(slopes, axis=1)])
    products = np.einsum("ci,js->csij", topographies[:, :n_components], times)
    flat = products.reshape(mean.size, -1).astype(np.float64)
    return np.linalg.qr(flat / np.linalg.norm(flat, axis=0))[0].astype(np.float32)


def _joined(
    artifact: np.ndarray, centers: np.ndarray, half: int, fade: int, n_samples: int
) -> np.ndarray:
    """One course of the beats' artifacts, each up to half way to its neighbors, then faded."""
    window = np.arange(-half, half + 1)
    middles = (centers[1:] + centers[:-1]) / 2
    befores = np.concatenate([[-np.inf], middles])
    afters = np.concatenate([middles, [np.inf]])
    joined = np.zeros((artifact.shape[1], n_samples), dtype=np.float32)
    for beat, center, before, after in zip(artifact, centers, befores, afters, strict=True):
        at = center + window
        rise = np.clip((at - before) / fade + 0.5, 0, 1)
        fall = np.clip((after - at) / fade + 0.5, 0, 1)
        inside = (at >= 0) & (at < n_samples)
        joined[:, at[inside]] += (beat * np.minimum(rise, fall))[:, inside].astype(np.float32)
    return joined
