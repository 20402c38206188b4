"""Gaussian noise with a given spectrum or smoothness, unit variance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def spectral_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    sfreq_hz: float,
    amplitude: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return noise with a given amplitude spectrum.

    Parameters
    ----------
    rng : numpy Generator
    shape : tuple of int
        Signals, samples.
    sfreq_hz : float
    amplitude : callable
        Frequencies in Hz -> relative amplitudes.

    Returns
    -------
    ndarray of `shape`, float32
        Expected variance 1.
    """
    from scipy import fft

    n_samples = shape[1]
    n_fft = fft.next_fast_len(n_samples, real=True)
    weights = amplitude(fft.rfftfreq(n_fft, 1 / sfreq_hz)).astype(np.float32)
    weights *= n_fft / (2 * np.linalg.norm(weights))
    noise = np.empty(shape, dtype=np.float32)
    for signal in noise:
        spectrum = rng.standard_normal(2 * len(weights), dtype=np.float32).view(np.complex64)
        spectrum *= weights
        signal[:] = fft.irfft(spectrum, n_fft)[:n_samples]
    return noise


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sfreq_hz: float, smoothness_s: float
) -> np.ndarray:
    """Return white noise smoothed by a Gaussian over time (last axis), expected variance 1."""
    from scipy.ndimage import gaussian_filter1d

    sigma = smoothness_s * sfreq_hz
    smooth = gaussian_filter1d(rng.standard_normal(shape), sigma, axis=-1, mode="wrap")
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * sigma)
