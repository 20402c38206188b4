"""When a prediction fits best, and whether it depends on EEG that is still to come."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.data.controls import middle

MAX_LAG_TRS = 5
_NO_CHANGE = 1e-5


def best_lag(shifts: np.ndarray) -> tuple[int, float]:
    """Find how late a prediction comes.

    Parameters
    ----------
    shifts : ndarray of shape (volume,)
        Of `significance.shift_correlations`: r of the prediction delayed by so many volumes.

    Returns
    -------
    tuple of int, float
        TRs by which the prediction is late (negative: early), up to 5, and its r when it is moved
        back by as many. 0 and the score itself where no other lag is better.
    """
    reach = min(MAX_LAG_TRS, (len(shifts) - 1) // 2)
    lags = sorted(range(-reach, reach + 1), key=abs)
    # A late prediction fits when it is delayed by less than nothing.
    fits = np.array([shifts[-lag % len(shifts)] for lag in lags])
    best = int(np.argmax(fits > fits.max() - 1e-9))
    return lags[best], float(fits[best])


def noncausal_fraction(
    eeg_only: np.ndarray, shifted: np.ndarray, later_shifted: np.ndarray
) -> float:
    """Measure how much volumes depend on EEG that was recorded after them.

    The EEG after the middle of the recording is replaced. A causal model predicts the volumes
    before it as before, to the last digit.

    Parameters
    ----------
    eeg_only : ndarray of shape (volume, region)
        Regional means predicted from the true EEG, not detrended.
    shifted : ndarray of shape (volume, region)
        The same with all EEG replaced.
    later_shifted : ndarray of shape (volume, region)
        The same with the EEG from `middle` on replaced.

    Returns
    -------
    float
        Largest rms change of a volume before the middle when later EEG is replaced, as a share of
        the rms change when all EEG is replaced. 0 for a causal model and for one without EEG; 1
        for a volume that depends on later EEG as much as on all EEG. A change that is the same
        for all volumes does not count.
    """
    cut = middle(len(eeg_only))
    size = np.sqrt(np.mean((shifted - eeg_only) ** 2))
    rounding = _NO_CHANGE * np.abs(eeg_only).max()
    if size <= rounding:
        return 0.0
    change = later_shifted[:cut] - eeg_only[:cut]
    # A model that centers each recording moves all volumes alike: no trace of when.
    moved = np.sqrt(np.mean((change - np.median(change, axis=0)) ** 2, axis=1)).max()
    return float(moved / size) if moved > rounding else 0.0
