"""EEG that a model should do worse with: zero, shifted in time, or cut off."""

from __future__ import annotations

import numpy as np


def shifted_eeg(eeg: np.ndarray) -> np.ndarray:
    """Roll the EEG of a whole recording by half its length.

    Keeps each channel's spectrum, autocorrelation and statistics, so that only the match in time
    with the BOLD is lost (a permutation of volumes would also make the EEG rougher than a model
    has ever seen).

    Parameters
    ----------
    eeg : ndarray of shape (volume, channel, frequency)
        One recording, as the model takes it.
    """
    return np.roll(eeg, len(eeg) // 2, axis=0)


def true_eeg(eeg: np.ndarray) -> np.ndarray:
    """Return the EEG as it is."""
    return eeg


def shifted_second_half(eeg: np.ndarray) -> np.ndarray:
    """Keep the EEG before the middle of a recording, roll all after it as `shifted_eeg` does."""
    cut = middle(len(eeg))
    return np.concatenate([eeg[:cut], shifted_eeg(eeg)[cut:]])


def zero_eeg(eeg: np.ndarray) -> np.ndarray:
    """Return zeros: for z-scored EEG, the recording's average at every TR."""
    return np.zeros_like(eeg)


def middle(n_volumes: int) -> int:
    """Return where EEG is cut in two: near the middle, odd, so that hardly a window ends there."""
    return n_volumes // 2 | 1
