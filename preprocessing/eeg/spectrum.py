"""Windowed Fourier transform of each volume's EEG, averaged over its time."""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import get_window

from eeg2fmri_dist.config.preprocess import BANDS_HZ, EegConfig
from eeg2fmri_dist.errors import ConfigError


def bin_frequencies(config: EegConfig) -> np.ndarray:
    """Frequencies of the Fourier bins inside the pass-band.

    Parameters
    ----------
    config : EegConfig
        Band edges and window.

    Returns
    -------
    array (bin,) of float64
        Multiples of 1 / `window_s` from the lower to the upper edge, both included, in Hz.

    Raises
    ------
    ConfigError
        If there is none.
    """
    low, high = (edge * config.window_s for edge in config.band_hz)
    bins = np.arange(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    if not len(bins):
        raise ConfigError(
            f"a Fourier window of {config.window_s} s has no bin within {config.band_hz} Hz",
            where="eeg.window_s",
            remedy="use a longer window; 1 s gives 1 Hz bins",
        )
    return bins / config.window_s


def place_windows(
    onsets: np.ndarray, volume_samples: float, length: int, n_windows: int, n_samples: int
) -> np.ndarray:
    """First samples of windows whose middles are spread evenly over each volume.

    Windows reach into the volumes before and after, so that the EEG at the edge of a volume counts
    as much as that in its middle: BOLD follows all of it. Where they would reach out of the signal,
    those of that volume are spread evenly over what is there.

    Parameters
    ----------
    onsets : array (volume,) of float64
        Onset of each volume, in samples; may lie between samples.
    volume_samples : float
        Length of a volume (the TR), in samples.
    length : int
        Samples of a window.
    n_windows : int
        Windows of a volume.
    n_samples : int
        Samples of the signal, at least `length`.

    Returns
    -------
    array (volume, window) of int64
    """
    ends = np.array([0.5, n_windows - 0.5]) / n_windows
    first, last = (onsets[:, None] + volume_samples * ends - length / 2).T.clip(
        0, n_samples - length
    )
    starts = np.linspace(first, last, n_windows, axis=1)
    # 1e-6 keeps rounding errors of whole numbers from moving a window by a sample.
    return np.ceil(starts - 1e-6).astype(np.int64)


class PowerSpectrum:
    """Power of windows in chosen Fourier bins.

    Windows are tapered with a periodic Hann window. Power is one-sided density times bin width
    (Welch's normalization, the ``scaling="density"`` of `scipy.signal`), so that its sum over all
    bins is the variance: a sine of amplitude A adds A^2 / 2, two thirds of it in its own bin and
    a sixth in each neighbor where it lies on a bin. Only the bins asked for are computed, as one
    matrix product.

    Parameters
    ----------
    frequencies_hz : array (bin,)
        Frequencies in Hz.
    window_s : float
        Length of a window in s; the bins are 1 / `window_s` wide.
    sfreq_hz : float
        Sampling rate in Hz.
    """

    def __init__(self, frequencies_hz: np.ndarray, window_s: float, sfreq_hz: float):
        self.length = round(window_s * sfreq_hz)
        taper = get_window("hann", self.length)
        phase = 2 * np.pi * np.outer(np.arange(self.length) / sfreq_hz, frequencies_hz)
        scale = np.sqrt(2 / (sfreq_hz * window_s * np.sum(taper**2)))
        waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
        self._waves = (scale * taper[:, None] * waves).astype(np.float32)

    def mean_power(self, signal: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Power averaged over windows.

        Parameters
        ----------
        signal : array (channel, sample) of float32
            Microvolts.
        starts : array (window,) of int
            First samples of the windows.

        Returns
        -------
        array (channel, bin) of float32
            uV^2 per bin.
        """
        windows = np.lib.stride_tricks.sliding_window_view(signal, self.length, axis=1)[:, starts]
        amplitudes = windows @ self._waves
        cosine, sine = np.split(amplitudes, 2, axis=2)
        return np.mean(cosine**2 + sine**2, axis=1)


def band_average(frequencies_hz: np.ndarray) -> np.ndarray:
    """Matrix that averages bins over delta, theta, alpha and beta.

    A band holds its lower edge, not its upper one.

    Parameters
    ----------
    frequencies_hz : array (bin,)
        Frequencies of the bins in Hz.

    Returns
    -------
    array (bin, band) of float32
        Columns sum to 1.

    Raises
    ------
    ConfigError
        If a band holds no bin.
    """
    members = []
    for name, (low, high) in BANDS_HZ.items():
        member = (frequencies_hz >= low) & (frequencies_hz < high)
        if not member.any():
            raise ConfigError(
                f"no Fourier bin lies in {name} ({low}-{high} Hz)",
                where="eeg.features: bands",
                remedy="widen eeg.band_hz, lengthen eeg.window_s, or use features: bins",
            )
        members.append(member / member.sum())
    return np.stack(members, axis=1).astype(np.float32)
