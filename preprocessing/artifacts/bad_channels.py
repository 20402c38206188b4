"""Channels that recorded no EEG: finding them.

The criteria are those of the PREP pipeline (Bigdely-Shamlo et al. 2015, Front. Neuroinform. 9:16)
that apply to a band-passed signal: a robust amplitude far from that of the other channels, and no
correlation with any of them. Flat and saturated channels show while the recording is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_ROBUST_Z = 5.0
MIN_CORRELATION = 0.4
MAX_UNCORRELATED_SHARE = 0.05  # of windows of 1 s; PREP's 0.01 is one window of a short recording


def find_bad_channels(signal: np.ndarray, sfreq_hz: float, names: Sequence[str]) -> dict[str, str]:
    """Channels that differ from all others.

    Parameters
    ----------
    signal : array (channel, sample)
        Band-passed, without gradient artifact; channels of zeros are left out.
    sfreq_hz : float
        Sampling rate in Hz.
    names : sequence of str
        Of the channels.

    Returns
    -------
    dict of str to str
        Bad channels and what is wrong with them.
    """
    used = np.flatnonzero(signal.any(axis=1))
    quartiles = np.quantile(signal[used], (0.25, 0.75), axis=1)
    amplitude = 0.7413 * (quartiles[1] - quartiles[0])  # s.d. of a normal distribution
    z = _robust_z(amplitude)
    uncorrelated = _uncorrelated_share(signal[used], round(sfreq_hz))
    bad = {}
    for channel, uv, score, share in zip(used, amplitude, z, uncorrelated, strict=True):
        if abs(score) > MAX_ROBUST_Z:
            what = "noisy" if score > 0 else "nearly flat"
            bad[names[channel]] = f"{what}: {uv:.1f} uV, robust z {score:+.1f}"
        elif share > MAX_UNCORRELATED_SHARE:
            bad[names[channel]] = f"unlike any other channel in {100 * share:.0f} % of the seconds"
    return bad


def _robust_z(values: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations."""
    quartiles = np.quantile(values, (0.25, 0.75))
    return (values - np.median(values)) / max(0.7413 * (quartiles[1] - quartiles[0]), 1e-12)


def _uncorrelated_share(signal: np.ndarray, length: int) -> np.ndarray:
    """Share of windows in which a channel correlates with no other."""
    windows = signal[:, : signal.shape[1] // length * length].reshape(len(signal), -1, length)
    uncorrelated = np.zeros(len(signal))
    for window in range(windows.shape[1]):
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.abs(np.corrcoef(windows[:, window]))
        np.fill_diagonal(correlation, 0)
        uncorrelated += np.nan_to_num(correlation).max(axis=1) < MIN_CORRELATION
    return uncorrelated / max(windows.shape[1], 1)
