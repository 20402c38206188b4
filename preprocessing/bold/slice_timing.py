"""Slices of a volume are acquired one after the other: shift each to the middle of its TR."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.bold.bold_run import BoldRun
from preprocessing.recordings import Recording

ORDERS = ("ascending", "descending", "interleaved")


def slice_times_s(recording: Recording, run: BoldRun, order: str) -> np.ndarray:
    """Return when each slice of the last axis is acquired, in s after the start of the volume.

    Parameters
    ----------
    recording : Recording
        With the times of its sidecar, where it has one.
    run : BoldRun
    order : {"sidecar", "ascending", "descending", "interleaved"}
        Interleaved: slices 0, 2, 4, ... then 1, 3, 5, ... (Siemens begins with slice 1 where the
        number of slices is even: give such runs a sidecar).

    Raises
    ------
    DataError
        If the sidecar states no times, not one per slice, or times beyond the TR.
    """
    n_slices = run.shape[2]
    if order == "sidecar":
        return _checked(recording, run)
    rank = np.empty(n_slices)
    sequence = {
        "ascending": np.arange(n_slices),
        "descending": np.arange(n_slices)[::-1],
        "interleaved": np.r_[0:n_slices:2, 1:n_slices:2],
    }[order]
    rank[sequence] = np.arange(n_slices)
    return rank * run.tr_s / n_slices


def shift_to_mid_tr(volumes: np.ndarray, times_s: np.ndarray, tr_s: float) -> np.ndarray:
    """Interpolate each slice's time courses to the middle of each TR.

    Cubic splines over volumes (`scipy.interpolate.make_interp_spline`), slice by slice; before the
    first and after the last acquisition a slice keeps that value. Linear in the data, and so one
    with the interpolation in space that follows.

    Parameters
    ----------
    volumes : ndarray of shape (x, y, z, volume), float32
    times_s : ndarray of shape (z,)
        Of each slice, as `slice_times_s` returns them.
    tr_s : float
        Repetition time in s.

    Returns
    -------
    ndarray of shape (x, y, z, volume), float32
    """
    n_volumes = volumes.shape[3]
    shifted = np.empty_like(volumes)
    for position, time_s in enumerate(times_s):
        weights = _spline_weights(n_volumes, 0.5 - time_s / tr_s).astype(np.float32)
        shifted[:, :, position] = volumes[:, :, position] @ weights.T
    return shifted


def _spline_weights(n_volumes: int, shift: float) -> np.ndarray:
    """Matrix (wanted volume, volume) that reads a course `shift` volumes later."""
    from scipy.interpolate import make_interp_spline

    if n_volumes == 1:
        return np.ones((1, 1))
    at = np.clip(np.arange(n_volumes) + shift, 0, n_volumes - 1)
    spline = make_interp_spline(
        np.arange(n_volumes), np.eye(n_volumes), k=3 if n_volumes > 3 else 1
    )
    weights: np.ndarray = spline(at)
    return weights


def _checked(recording: Recording, run: BoldRun) -> np.ndarray:
    times_s = recording.slice_times_s
    if times_s is None:
        fault = "no sidecar states SliceTiming along the third axis of the run"
    elif len(times_s) != run.shape[2]:
        fault = f"SliceTiming has {len(times_s)} times, the run {run.shape[2]} slices"
    elif max(times_s) >= run.tr_s:
        fault = f"SliceTiming goes up to {max(times_s):g} s, the TR is {run.tr_s:g} s"
    else:
        return np.array(times_s)
    raise DataError(
        fault,
        where=run.path,
        remedy="correct the sidecar, or set bold.slice_timing to ascending, descending, "
        "interleaved or off",
    )
