"""Band-passed EEG of a whole scan at a low rate, for corrections that need all of it at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eeg2fmri_dist.config.preprocess import EegConfig
from preprocessing.artifacts.gradient import locked_share
from preprocessing.eeg.bandpass import Bandpass, decimation_factor
from preprocessing.eeg.continuous import ContinuousEeg

# Features end far below: corrections need no higher rate.
MAX_SFREQ_HZ = 250.0
_BLOCK_S = 20.0
_PROBE_VOLUMES = 8
_PROBE_CHANNELS = 16

Read = Callable[[int, int], np.ndarray]


def scan_factor(eeg: ContinuousEeg, config: EegConfig) -> int:
    """Decimation of a signal that is to be corrected: to 250 Hz, or what the pass-band needs."""
    target_hz = min(config.sfreq_hz, max(MAX_SFREQ_HZ, 2.5 * config.band_hz[1]))
    return decimation_factor(eeg.sfreq_hz, target_hz)


def probe_gradient_share(
    eeg: ContinuousEeg, channels: np.ndarray, onsets: np.ndarray, tr_s: float, config: EegConfig
) -> float:
    """Share of the power that repeats with the volumes, from a few volumes amid the scan.

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording.
    channels : array (channel,) of int
        Scalp channels; some of them are looked at.
    onsets : array (volume,) of int
        Volume markers in samples.
    tr_s : float
        Repetition time in s.
    config : EegConfig

    Returns
    -------
    float
        See `locked_share`; NaN for fewer than four whole volumes.
    """
    whole = onsets[onsets + round(tr_s * eeg.sfreq_hz) <= eeg.n_samples]
    first = max(0, (len(whole) - _PROBE_VOLUMES) // 2)
    probed = whole[first : first + _PROBE_VOLUMES]
    if len(probed) < 4:
        return float("nan")
    some = channels[:: -(-len(channels) // _PROBE_CHANNELS)]
    factor = scan_factor(eeg, config)
    length = int(tr_s * eeg.sfreq_hz / factor)
    starts = np.rint((probed - probed[0]) / factor).astype(int)

    def read(start: int, stop: int) -> np.ndarray:
        return np.nan_to_num(eeg.read(start, stop, some), posinf=0, neginf=0)

    bandpass = Bandpass(read, eeg.n_samples, eeg.sfreq_hz, config.band_hz, factor, int(probed[0]))
    return locked_share(bandpass.span(0, int(starts[-1]) + length), starts, length)


def read_scan(
    read: Read,
    eeg: ContinuousEeg,
    onsets: np.ndarray,
    tr_s: float,
    config: EegConfig,
    periodic: bool,
) -> np.ndarray:
    """Band-passed, decimated signal from the first volume's onset to the last one's end.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples (channel, sample) of the recording.
    eeg : ContinuousEeg
        The recording.
    onsets : array (volume,) of int
        Volume markers in samples.
    tr_s : float
        Repetition time in s.
    config : EegConfig
    periodic : bool
        Whether there is a gradient artifact. The scan is then continued at its ends by copies of
        its first and last volume, so that the artifact keeps repeating as far as the filter looks;
        what was recorded before and after the scan is not.

    Returns
    -------
    array (channel, sample) of float32
        Channels with samples that are not finite are zero.
    """
    factor = scan_factor(eeg, config)
    first, period = int(onsets[0]), round(tr_s * eeg.sfreq_hz)
    n_samples = -(-(int(onsets[-1]) - first + period) // factor)
    if periodic:
        # The last volume may be cut.
        scan = _PeriodicEnds(read, first, min(int(onsets[-1]) + period, eeg.n_samples), period)
        bandpass = Bandpass(
            scan.read, scan.n_samples, eeg.sfreq_hz, config.band_hz, factor, scan.origin
        )
    else:
        bandpass = Bandpass(read, eeg.n_samples, eeg.sfreq_hz, config.band_hz, factor, first)
    step = round(_BLOCK_S * eeg.sfreq_hz / factor)
    signal = np.concatenate(
        [bandpass.span(at, min(at + step, n_samples)) for at in range(0, n_samples, step)], axis=1
    )
    signal[~np.isfinite(signal).all(axis=1)] = 0
    return signal


class _PeriodicEnds:
    """A scan that goes on at both ends as it began and ended, counted from its own start."""

    def __init__(self, read: Read, first: int, last: int, period: int):
        self._read, self._first, self._last, self._period = read, first, last, period
        self.origin = 3 * period
        self.n_samples = last - first + 2 * self.origin

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples of a range."""
        place = np.arange(start, stop) + self._first - self.origin
        before = np.maximum(-(-(self._first - place) // self._period), 0)
        after = np.maximum(-(-(place + 1 - self._last) // self._period), 0)
        place += (before - after) * self._period
        lowest = int(place.min())
        block = self._read(lowest, int(place.max()) + 1)
        within = place - lowest
        unbroken = len(within) == block.shape[1] and (np.diff(within) == 1).all()
        return block if unbroken else block[:, within]
