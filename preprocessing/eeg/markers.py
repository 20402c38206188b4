"""Where each BOLD volume begins in the EEG."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg, Marker

# Trigger jitter and clock drift that are let through, beside one sample of rounding.
SPACING_ALLOWANCE = 1e-3  # of the TR


def volume_onsets(
    eeg: ContinuousEeg, n_volumes: int | None, tr_s: float, config: EegConfig
) -> np.ndarray:
    """First EEG sample of each volume.

    With a marker name, a volume begins at its own marker; number and spacing of the markers must
    agree with the BOLD run. Without one (`marker` None) the recording must have been segmented
    to the scan: volume 0 begins at sample 0, and the recording lasts as long as the run, give or
    take one TR. The end of the last volume may be missing as long as one Fourier window of it is
    there.

    EEG that was cut (`first_volume` is not None) begins with that volume of the BOLD run, and the
    run may go on behind its end.

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording.
    n_volumes : int or None
        Volumes of the BOLD run; None = as many as the EEG covers.
    tr_s : float
        Repetition time in s.
    config : EegConfig
        ``marker``, ``first_volume``, and ``window_s``, which the last volume must hold.

    Returns
    -------
    array (volume,) of int64
        Samples, counted from 0; of the volumes from `first_volume` on that the EEG covers.

    Raises
    ------
    DataError
        If the markers are absent, too few, too many or irregular, or if the EEG is shorter than
        the BOLD run.
    """
    marker, cut, window_s = config.marker, config.first_volume is not None, config.window_s
    if n_volumes is not None and not cut:
        _check_duration(eeg, n_volumes, tr_s, window_s)
    if marker is None:
        onsets = _onsets_of_segment(eeg, None if cut else n_volumes, tr_s)
    else:
        onsets = _onsets_of_markers(eeg, marker)
        if n_volumes is not None:
            _check_count(onsets, eeg, n_volumes - (config.first_volume or 0), tr_s, cut)
        _check_spacing(onsets, eeg, tr_s)
    covered = onsets + int(window_s * eeg.sfreq_hz) <= eeg.n_samples
    if n_volumes is None:
        return onsets[covered]
    if cut:
        return onsets[covered][: n_volumes - (config.first_volume or 0)]
    if not covered[-1]:
        raise _ends_early(eeg, n_volumes * tr_s, f"starts at {onsets[0] / eeg.sfreq_hz:.3f} s and ")
    return onsets


def spacing_quality(onsets: np.ndarray, sfreq_hz: float, tr_s: float) -> dict[str, float]:
    """Spacing of volume onsets against the TR.

    Parameters
    ----------
    onsets : array (volume,) of int
        First sample of each volume.
    sfreq_hz : float
        Sampling rate in Hz.
    tr_s : float
        Repetition time in s.

    Returns
    -------
    dict
        ``n_volumes``, ``marker_spacing_mean_s`` and ``marker_spacing_max_deviation_s``.
    """
    spacing_s = np.diff(onsets) / sfreq_hz if len(onsets) > 1 else np.array([tr_s])
    return {
        "n_volumes": len(onsets),
        "marker_spacing_mean_s": float(spacing_s.mean()),
        "marker_spacing_max_deviation_s": float(np.abs(spacing_s - tr_s).max()),
    }


def _onsets_of_segment(eeg: ContinuousEeg, n_volumes: int | None, tr_s: float) -> np.ndarray:
    """Onsets in a recording that was cut to the scan."""
    if n_volumes is None:
        n_volumes = int((eeg.n_samples + 1) / (tr_s * eeg.sfreq_hz))  # the end may be rounded off
    elif eeg.duration_s >= (n_volumes + 1) * tr_s:
        raise DataError(
            f"without volume markers (eeg.marker: null) the EEG must have been cut to the scan, "
            f"but it lasts {eeg.duration_s:.3f} s and the BOLD run {n_volumes * tr_s:.3f} s "
            f"({n_volumes} volumes)",
            where=eeg.header_path,
            remedy="name the volume marker in eeg.marker; " + _descriptions(eeg.markers),
        )
    return np.rint(np.arange(n_volumes) * tr_s * eeg.sfreq_hz).astype(np.int64)


def _onsets_of_markers(eeg: ContinuousEeg, pattern: str) -> np.ndarray:
    """Positions of the volume markers, each once, in order of time."""
    samples = [m.sample for m in eeg.markers if re.search(pattern, m.description)]
    if not samples:
        raise DataError(
            f"no marker matches {pattern!r} (eeg.marker); {_descriptions(eeg.markers)}",
            where=eeg.header_path,
            remedy="set eeg.marker to the name of the volume marker, or to null for EEG that was "
            "cut to the scan and has none",
        )
    return np.unique(np.array(samples, dtype=np.int64))


def _descriptions(markers: Sequence[Marker]) -> str:
    """Descriptions that are there, with counts."""
    counts = Counter(marker.description for marker in markers).most_common(12)
    if not counts:
        return "the recording has no markers"
    return "markers that are there: " + ", ".join(f"{name!r} x {n}" for name, n in counts)


def _check_duration(eeg: ContinuousEeg, n_volumes: int, tr_s: float, window_s: float) -> None:
    """Refuse EEG that cannot hold the run, wherever the run begins."""
    if eeg.duration_s < (n_volumes - 1) * tr_s + window_s:
        raise _ends_early(eeg, n_volumes * tr_s, "")


def _ends_early(eeg: ContinuousEeg, run_s: float, start: str) -> DataError:
    """Error for EEG that is shorter than the BOLD run."""
    return DataError(
        f"the EEG is shorter than the BOLD run: the EEG lasts {eeg.duration_s:.3f} s, the run "
        f"{start}lasts {run_s:.3f} s",
        where=eeg.header_path,
        remedy="check that EEG and BOLD belong to the same run and that the EEG is whole; "
        "otherwise leave the recording out (source.exclude)",
    )


def _check_count(
    onsets: np.ndarray, eeg: ContinuousEeg, n_volumes: int, tr_s: float, cut: bool
) -> None:
    """Refuse a number of markers other than that of the volumes; fewer are fine in cut EEG."""
    if len(onsets) == n_volumes or (cut and len(onsets) < n_volumes):
        return
    amount = "too few" if len(onsets) < n_volumes else "too many"
    irregular = _first_irregular(onsets, eeg.sfreq_hz, tr_s)
    place = f"; {irregular}" if irregular else "; their spacing is regular"
    raise DataError(
        f"{amount} volume markers: {len(onsets)} for {n_volumes} BOLD volumes{place}",
        where=eeg.header_path,
        remedy="narrow eeg.marker if it matches other events too; otherwise correct the marker "
        "file (.vmrk) so that each volume has one",
    )


def _check_spacing(onsets: np.ndarray, eeg: ContinuousEeg, tr_s: float) -> None:
    """Refuse markers that are not one TR apart."""
    irregular = _first_irregular(onsets, eeg.sfreq_hz, tr_s)
    if irregular is None:
        return
    typical_s = float(np.median(np.diff(onsets))) / eeg.sfreq_hz
    if abs(typical_s - tr_s) > _tolerance_s(eeg.sfreq_hz, tr_s):
        raise DataError(
            f"the {len(onsets)} volume markers are {typical_s:.4f} s apart, but the TR is "
            f"{tr_s:.4f} s; {irregular}",
            where=eeg.header_path,
            remedy="set source.tr_s if the TR is wrong, or eeg.marker if these are not volumes",
        )
    raise DataError(
        f"the {len(onsets)} volume markers are irregular; {irregular}",
        where=eeg.header_path,
        remedy="correct the marker file (.vmrk): a marker is missing, moved or not of a volume",
    )


def _tolerance_s(sfreq_hz: float, tr_s: float) -> float:
    """Deviation of a spacing from the TR that is let through."""
    return 1 / sfreq_hz + SPACING_ALLOWANCE * tr_s


def _first_irregular(onsets: np.ndarray, sfreq_hz: float, tr_s: float) -> str | None:
    """Where the markers first stray from the TR, in words."""
    spacing_s = np.diff(onsets) / sfreq_hz
    stray = np.flatnonzero(np.abs(spacing_s - tr_s) > _tolerance_s(sfreq_hz, tr_s))
    if not len(stray):
        return None
    volume = int(stray[0])
    return (
        f"first irregular gap after volume {volume} (counted from 0, at "
        f"{onsets[volume] / sfreq_hz:.3f} s): {spacing_s[volume]:.4f} s instead of {tr_s:.4f} s"
    )
