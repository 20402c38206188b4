"""Continuous EEG -> power per volume, channel and frequency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.preprocess import BANDS_HZ, EegConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.bandpass import Bandpass, decimation_factor
from preprocessing.brainvision import BrainVision, open_brainvision
from preprocessing.markers import spacing_quality, volume_onsets
from preprocessing.recordings import Recording
from preprocessing.spectrum import PowerSpectrum, band_average, bin_frequencies, place_windows

# Signal that is filtered at a time; bounds the memory whatever the length of the recording.
BLOCK_S = 20.0
# A recorded channel varies by at least its noise, far more than this.
FLAT_UV = 1e-3


@dataclass(frozen=True)
class EegFeatures:
    """Spectral power of a recording, one row per volume.

    Attributes
    ----------
    power : array (volume, channel, frequency) of float32
        Power in `unit`; the volumes that were to be dropped are not in it.
    channel_names : tuple of str
        In the order of the file.
    frequencies_hz : array (frequency,) of float64
        Centres of the bins or bands in Hz.
    unit : str
        Unit of the power.
    sfreq_hz : float
        Sampling rate of the band-passed signal after decimation.
    quality : dict of str to float
        ``n_volumes`` (before dropping), ``marker_spacing_mean_s``,
        ``marker_spacing_max_deviation_s``, ``duration_s``, ``scan_start_s`` (onset of volume 0),
        ``end_missing_s`` (what the EEG lacks of the last volume), ``sfreq_recorded_hz``, and the
        median and largest ``peak_to_peak_uv_*`` over channels of the band-passed signal.
    """

    power: np.ndarray
    channel_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    unit: str
    sfreq_hz: float
    quality: dict[str, float]


def eeg_features(
    recording: Recording,
    n_volumes: int | None,
    tr_s: float,
    config: EegConfig,
    drop_volumes: int,
) -> EegFeatures:
    """Spectral power of the EEG of each BOLD volume.

    The continuous signal is band-passed (zero phase) and decimated; each volume's share of it,
    from the volume's own marker on, is covered by `windows_per_tr` Hann windows whose power is
    averaged. Filtering before cutting matters: a 1 Hz high-pass is longer than a volume. The
    recording is read in blocks, so memory does not grow with its length.

    Parameters
    ----------
    recording : Recording
        Only its EEG is read.
    n_volumes : int or None
        Volumes of the BOLD run; None without one: as many as the EEG has markers for.
    tr_s : float
        Repetition time in s.
    config : EegConfig
        Settings.
    drop_volumes : int
        First volumes to leave out.

    Returns
    -------
    EegFeatures

    Raises
    ------
    DataError
        If the recording is damaged, its volume markers do not fit the BOLD run, or its channels
        cannot be used.
    ConfigError
        If the window is longer than a volume or no frequency is left.
    """
    _check_window(config, tr_s)
    eeg = open_brainvision(recording.eeg_path)
    _check_rate(eeg, config)
    channels = scalp_channels(eeg, config)
    onsets = volume_onsets(eeg, config.marker, n_volumes, tr_s, config.window_s)
    _check_volumes_left(eeg, len(onsets), drop_volumes)

    factor = decimation_factor(eeg.sfreq_hz, config.sfreq_hz)
    sfreq_hz = eeg.sfreq_hz / factor
    bins_hz = bin_frequencies(config)
    spectrum = PowerSpectrum(bins_hz, config.window_s, sfreq_hz)
    starts = _window_starts(eeg, onsets, tr_s, factor, spectrum.length, config.windows_per_tr)
    signal = _WatchedSignal(eeg, channels)
    bandpass = Bandpass(
        signal.read, eeg.n_samples, eeg.sfreq_hz, config.band_hz, factor, int(onsets[0])
    )
    block_volumes = max(1, round(BLOCK_S / tr_s))
    power, peak_to_peak_uv = _power(bandpass, spectrum, starts[drop_volumes:], block_volumes)
    signal.check()

    quality = spacing_quality(onsets, eeg.sfreq_hz, tr_s) | {
        "duration_s": eeg.duration_s,
        "scan_start_s": float(onsets[0] / eeg.sfreq_hz),
        "end_missing_s": max(0.0, float(onsets[-1] / eeg.sfreq_hz + tr_s - eeg.duration_s)),
        "sfreq_recorded_hz": eeg.sfreq_hz,
        "peak_to_peak_uv_median": float(np.median(peak_to_peak_uv)),
        "peak_to_peak_uv_max": float(peak_to_peak_uv.max()),
    }
    frequencies_hz = bins_hz
    if config.features == "bands":
        power = power @ band_average(bins_hz)
        frequencies_hz = np.array([np.mean(edges) for edges in BANDS_HZ.values()])
    return EegFeatures(
        power=power,
        channel_names=tuple(eeg.channel_names[channel] for channel in channels),
        frequencies_hz=frequencies_hz,
        unit=f"uV^2 per {1 / config.window_s:g} Hz bin",
        sfreq_hz=sfreq_hz,
        quality=quality,
    )


def scalp_channels(eeg: BrainVision, config: EegConfig) -> np.ndarray:
    """Channels of type EEG that the config does not exclude.

    BrainVision knows no channel types beyond the unit, so everything in volts counts as EEG
    unless its name says otherwise.

    Parameters
    ----------
    eeg : BrainVision
        The recording.
    config : EegConfig
        ``exclude`` and ``min_channels``.

    Returns
    -------
    array (channel,) of int
        Positions in the file, in its order.

    Raises
    ------
    DataError
        If fewer than ``min_channels`` are left.
    """
    # "O1" must not take "O10" with it.
    beginnings = [
        re.escape(name) + (r"(?!\d)" if name[-1:].isdigit() else "") for name in config.exclude
    ]
    excluded = re.compile("|".join(beginnings) or "(?!)", re.IGNORECASE)
    channels = [
        position
        for position, name in enumerate(eeg.channel_names)
        if eeg.channel_types[position] == "eeg" and not excluded.match(name)
    ]
    if len(channels) < config.min_channels:
        raise DataError(
            f"{len(channels)} scalp channels of {len(eeg.channel_names)} are left, "
            f"eeg.min_channels asks for {config.min_channels}; the recording has "
            + ", ".join(eeg.channel_names),
            where=eeg.header_path,
            remedy="check eeg.exclude, or lower eeg.min_channels",
        )
    return np.array(channels)


class _WatchedSignal:
    """Chosen channels of a recording, whose range is noted while they are read."""

    def __init__(self, eeg: BrainVision, channels: np.ndarray):
        self._eeg, self._channels = eeg, channels
        self._lowest = np.full(len(channels), np.inf, dtype=np.float32)
        self._highest = np.full(len(channels), -np.inf, dtype=np.float32)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples (channel, sample) of a range in microvolts."""
        block = self._eeg.read(start, stop, self._channels)
        # Both carry a NaN on.
        self._lowest = np.minimum(self._lowest, block.min(axis=1))
        self._highest = np.maximum(self._highest, block.max(axis=1))
        return block

    def check(self) -> None:
        """Refuse channels that were constant or not finite in what was read."""
        finite = np.isfinite(self._lowest) & np.isfinite(self._highest)
        flat = finite & (self._highest - self._lowest < FLAT_UV)
        faults = []
        if not finite.all():
            faults.append(f"NaN or infinite samples in {self._names(~finite)}")
        if flat.any():
            faults.append(f"constant signal in {self._names(flat)}")
        if faults:
            raise DataError(
                "; ".join(faults),
                where=self._eeg.header_path,
                remedy="add the channels to eeg.exclude (all recordings then do without them), "
                "or leave the recording out (source.subjects)",
            )

    def _names(self, chosen: np.ndarray) -> str:
        return ", ".join(self._eeg.channel_names[channel] for channel in self._channels[chosen])


def _check_window(config: EegConfig, tr_s: float) -> None:
    """Refuse a Fourier window that does not fit into a volume."""
    if config.window_s > tr_s:
        raise ConfigError(
            f"the Fourier window of {config.window_s} s is longer than the TR of {tr_s} s",
            where="eeg.window_s",
            remedy="use a window of at most one TR",
        )


def _check_rate(eeg: BrainVision, config: EegConfig) -> None:
    """Refuse a rate at which the band-pass has no room for its upper slope."""
    if eeg.sfreq_hz <= 2.5 * config.band_hz[1]:
        raise DataError(
            f"sampled at {eeg.sfreq_hz:g} Hz, too slow for a band-pass up to "
            f"{config.band_hz[1]:g} Hz",
            where=eeg.header_path,
            remedy="lower the upper edge of eeg.band_hz below 0.4 x the sampling rate",
        )


def _check_volumes_left(eeg: BrainVision, n_volumes: int, drop_volumes: int) -> None:
    """Refuse a recording of which nothing is left."""
    if n_volumes <= drop_volumes:
        raise DataError(
            f"the EEG covers {n_volumes} volumes and the first {drop_volumes} are dropped",
            where=eeg.header_path,
            remedy="check that the recording is whole, or lower drop_volumes",
        )


def _window_starts(
    eeg: BrainVision, onsets: np.ndarray, tr_s: float, factor: int, length: int, n_windows: int
) -> np.ndarray:
    """Windows (volume, window) in samples of the decimated signal, volume 0 being its origin."""
    sfreq_hz = eeg.sfreq_hz / factor
    starts = place_windows((onsets - onsets[0]) / factor, tr_s * sfreq_hz, length, n_windows)
    # The last volume may be cut: its windows are spread over what there is.
    recorded = min(tr_s, eeg.duration_s - onsets[-1] / eeg.sfreq_hz)
    starts[-1:] = place_windows(
        (onsets[-1:] - onsets[0]) / factor, recorded * sfreq_hz, length, n_windows
    )
    return starts


def _power(
    bandpass: Bandpass, spectrum: PowerSpectrum, starts: np.ndarray, block_volumes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean power (volume, channel, bin) and peak-to-peak amplitude (channel,)."""
    power, lowest, highest = [], [], []
    for signal, block_starts in _blocks(bandpass, spectrum.length, starts, block_volumes):
        power += [spectrum.mean_power(signal, volume) for volume in block_starts]
        lowest.append(signal.min(axis=1))
        highest.append(signal.max(axis=1))
    return np.stack(power), np.max(highest, axis=0) - np.min(lowest, axis=0)


def _blocks(
    bandpass: Bandpass, length: int, starts: np.ndarray, block_volumes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Filtered signal of a few volumes at a time, with their windows counted from its start."""
    for volume in range(0, len(starts), block_volumes):
        block_starts = starts[volume : volume + block_volumes]
        first = int(block_starts.min())
        signal = bandpass.span(first, int(block_starts.max()) + length)
        yield signal, block_starts - first
