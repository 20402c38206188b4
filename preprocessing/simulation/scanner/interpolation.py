"""From the sources' sampling rate to the recorder's, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

HALF_LENGTH = 5  # of the interpolation filter, in samples of the input


def interpolation_filter(factor: int) -> np.ndarray:
    """Return a linear-phase low-pass of odd length, gain `factor`: the taps of all phases."""
    from scipy.signal import firwin

    n_taps = 2 * HALF_LENGTH * factor + 1
    return factor * firwin(n_taps, 1 / factor, window=("kaiser", 5.0)).astype(np.float32)


def interpolated_blocks(signal: np.ndarray, factor: int, block_length: int) -> Iterator[np.ndarray]:
    """Yield the signal at `factor` times its rate.

    A polyphase filter, as `scipy.signal.resample_poly` computes it with the same taps. Written as
    one small matrix product per input sample it costs a tenth and needs no transposition.

    Parameters
    ----------
    signal : ndarray of shape (sample, channel), float32
        Zero beyond its ends.
    factor : int
        Output samples per input sample.
    block_length : int
        Input samples per block.

    Yields
    ------
    ndarray of shape (at most block_length * factor, channel), float32
    """
    n_samples, n_channels = signal.shape
    phases = _phase_matrix(factor)
    padded = np.pad(signal, ((HALF_LENGTH, HALF_LENGTH), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, phases.shape[1], axis=0)
    for start in range(0, n_samples, block_length):
        # (sample, channel, tap) -> (sample, tap, channel): rows of `padded` as they lie there.
        block = windows[start : start + block_length].transpose(0, 2, 1)
        yield np.matmul(phases, block).reshape(-1, n_channels)


def _phase_matrix(factor: int) -> np.ndarray:
    """Weights of 2 * HALF_LENGTH + 1 input samples in each of `factor` output samples."""
    if factor == 1:
        return np.eye(1, 2 * HALF_LENGTH + 1, HALF_LENGTH, dtype=np.float32)
    taps = interpolation_filter(factor)
    phases = np.zeros((factor, 2 * HALF_LENGTH + 1), dtype=np.float32)
    for phase in range(factor):
        phase_taps = taps[phase::factor][::-1]
        phases[phase, -len(phase_taps) :] = phase_taps
    return phases
