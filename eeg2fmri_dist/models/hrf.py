"""The canonical hemodynamic response function (HRF)."""

from __future__ import annotations

import math

import numpy as np

# SPM's double gamma: response peaks 5 s after the event, undershoot 15 s after it, ratio 6 to 1.
RESPONSE_SHAPE = 6.0
UNDERSHOOT_SHAPE = 16.0
UNDERSHOOT_RATIO = 1 / 6

# Peaks at about 5, 3 and 7 s: the spread over regions and subjects that EEG-fMRI studies model.
BASIS_DELAYS_S = (0.0, -2.0, 2.0)


def canonical_hrf(tr_s: float, *, duration_s: float = 32.0, delay_s: float = 0.0) -> np.ndarray:
    """Return the double-gamma HRF sampled at multiples of the TR, with sum 1.

    Parameters
    ----------
    tr_s : float
        Sampling interval in s.
    duration_s : float
        Time after the event up to which the response is sampled, in s.
    delay_s : float
        Shift of the response in s; negative makes it earlier (what falls before 0 is cut off).

    Returns
    -------
    ndarray, shape (lag,)
        Response at 0, `tr_s`, 2 `tr_s`, ... up to `duration_s`.

    Notes
    -----
    Parameters of SPM (Friston et al., NeuroImage 7, 1998), as in `nilearn.glm`'s `spm_hrf`.
    """
    lags = int(duration_s / tr_s + 1e-9) + 1  # the small number: 24.0 / 0.8 may be 29.999...
    times_s = (np.arange(lags) * tr_s - delay_s).clip(min=0)
    response = _gamma_density(times_s, RESPONSE_SHAPE)
    response -= UNDERSHOOT_RATIO * _gamma_density(times_s, UNDERSHOOT_SHAPE)
    return response / response.sum()


def hrf_basis(tr_s: float, *, duration_s: float = 24.0) -> np.ndarray:
    """Return the canonical HRF and two shifted copies, shape (3, lag), each with sum 1.

    Parameters
    ----------
    tr_s : float
        Repetition time in s.
    duration_s : float
        Length in s; 24 s make 12 lags at a TR of 2.16 s.
    """
    return np.stack(
        [canonical_hrf(tr_s, duration_s=duration_s, delay_s=delay) for delay in BASIS_DELAYS_S]
    )


def hrf_shapes(tr_s: float) -> np.ndarray:
    """Return the canonical HRF and the ways in which it may differ, shape (3, lag), orthonormal.

    The second row makes the response earlier, the third changes its width: what is left of the
    two shifted copies of `hrf_basis` once the rows before have been taken off.

    Parameters
    ----------
    tr_s : float
        Repetition time in s.

    Notes
    -----
    The informed basis set of SPM (Friston et al., NeuroImage 7, 1998), by differences in place of
    derivatives.
    """
    canonical, early, late = hrf_basis(tr_s)
    q, r = np.linalg.qr(np.stack([canonical, early - late, early + late], axis=1))
    return (q * np.sign(np.diag(r))).T


def _gamma_density(times_s: np.ndarray, shape: float) -> np.ndarray:
    """Density of the gamma distribution with rate 1 per s."""
    return times_s ** (shape - 1) * np.exp(-times_s) / math.gamma(shape)
