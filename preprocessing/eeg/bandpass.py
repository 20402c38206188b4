"""Zero-phase band-pass and decimation of EEG in one pass, span by span."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import fft

Read = Callable[[int, int], np.ndarray]


def decimation_factor(sfreq_hz: float, target_hz: float) -> int:
    """Largest whole factor that keeps the rate at or above a target.

    EEG is never up-sampled: a rate below the target stays as it is (factor 1), and one that is
    no multiple of it ends above it (2048 Hz with target 1000 Hz gives 1024 Hz).

    Parameters
    ----------
    sfreq_hz, target_hz : float
        Rate of the recording and rate wanted, in Hz.

    Returns
    -------
    int
    """
    return max(1, int(sfreq_hz / target_hz + 1e-9))


class Bandpass:
    """Band-passed, decimated signal of a recording, computed where it is asked for.

    The filter is MNE-Python's default (``mne.filter.create_filter``: windowed-sinc FIR, Hamming,
    zero phase), and so is the odd reflection at the ends of the recording, so the result is that
    of ``mne.filter.filter_data`` followed by taking every `factor`-th sample. Filter and
    decimation share one pair of Fourier transforms (overlap-save): the spectrum is multiplied by
    the filter's response and transformed back from its lowest bins only. The filter has
    suppressed what lies above the new Nyquist rate, so that nothing folds down. Samples are
    float32.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples (channel, sample).
    n_samples : int
        Samples of the recording.
    sfreq_hz : float
        Its sampling rate in Hz.
    band_hz : (float, float)
        Edges of the pass-band in Hz.
    factor : int
        Decimation factor.
    origin : int
        Sample of the recording at which sample 0 of the result lies.
    """

    def __init__(
        self,
        read: Read,
        n_samples: int,
        sfreq_hz: float,
        band_hz: tuple[float, float],
        factor: int,
        origin: int,
    ):
        import mne

        self._read, self._n_samples = read, n_samples
        self._factor, self._origin = factor, origin
        self._taps = mne.filter.create_filter(None, sfreq_hz, *band_hz, verbose="error")
        # Reach of the filter to either side, as whole samples of the result.
        self._margin = -(-(len(self._taps) // 2) // factor)
        self._response = lru_cache(maxsize=4)(self._compute_response)

    def span(self, start: int, stop: int) -> np.ndarray:
        """Filtered samples, the same whichever span they are part of.

        Parameters
        ----------
        start, stop : int
            Range in samples of the result.

        Returns
        -------
        array (channel, stop - start) of float32
        """
        first, last = start - self._margin, stop - 1 + self._margin
        signal = self._read_reflected(
            self._origin + first * self._factor, self._origin + last * self._factor + 1
        )
        # The filter removes a constant anyway; without it float32 loses nothing to large offsets.
        with np.errstate(invalid="ignore"):  # infinite samples become NaN and stay so
            signal = signal - signal.mean(axis=1, keepdims=True)
        n_out = fft.next_fast_len(stop - start + 2 * self._margin, real=True)
        response = self._response(n_out * self._factor)
        spectrum = fft.rfft(signal, n=n_out * self._factor, axis=1)[:, : len(response)]
        filtered = fft.irfft(spectrum * response, n=n_out, axis=1)
        return filtered[:, self._margin : self._margin + stop - start]

    def _compute_response(self, n_fft: int) -> np.ndarray:
        """Zero-phase response on the bins that survive decimation."""
        half = len(self._taps) // 2
        centered = np.zeros(n_fft)
        centered[: half + 1] = self._taps[half:]
        centered[n_fft - half :] = self._taps[:half]
        n_bins = n_fft // self._factor // 2 + 1
        return (fft.rfft(centered)[:n_bins].real / self._factor).astype(np.float32)

    def _read_reflected(self, start: int, stop: int) -> np.ndarray:
        """Samples of a range that may reach beyond the recording."""
        n = self._n_samples
        inside = self._read(max(start, 0), min(stop, n))
        parts = [inside]
        if start < 0:
            n_mirror = min(-start, n - 1)
            near = self._read(0, n_mirror + 1)
            mirrored = 2 * near[:, :1] - near[:, :0:-1]
            parts.insert(0, np.pad(mirrored, ((0, 0), (-start - n_mirror, 0))))
        if stop > n:
            n_mirror = min(stop - n, n - 1)
            near = self._read(n - n_mirror - 1, n)
            mirrored = 2 * near[:, -1:] - near[:, -2::-1]
            parts.append(np.pad(mirrored, ((0, 0), (0, stop - n - n_mirror))))
        return np.concatenate(parts, axis=1) if len(parts) > 1 else inside
