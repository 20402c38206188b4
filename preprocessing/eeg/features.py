"""Continuous EEG -> power per volume, channel and frequency."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from eeg2fmri_dist.config.preprocess import BANDS_HZ, EegConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.artifacts.cleaning import Cleaning, Plan, clean, plan_cleaning
from preprocessing.artifacts.gradient import LOCKED_SHARE, check_enough_volumes, even_onsets
from preprocessing.eeg.bandpass import Bandpass, decimation_factor
from preprocessing.eeg.channels import ecg_channel, scalp_channels
from preprocessing.eeg.checked_signal import WatchedSignal
from preprocessing.eeg.continuous import ContinuousEeg
from preprocessing.eeg.file_formats import open_eeg
from preprocessing.eeg.markers import spacing_quality, volume_onsets
from preprocessing.eeg.scan_signal import probe_gradient_share, read_scan, scan_factor
from preprocessing.eeg.spectrum import PowerSpectrum, band_average, bin_frequencies, place_windows
from preprocessing.recordings import Recording

# Signal that is filtered at a time; bounds the memory whatever the length of the recording.
BLOCK_S = 20.0


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
        Centers of the bins or bands in Hz.
    unit : str
        Unit of the power.
    sfreq_hz : float
        Sampling rate of the band-passed signal after decimation.
    quality : dict of str to float
        ``n_volumes`` (before dropping), ``marker_spacing_mean_s``,
        ``marker_spacing_max_deviation_s``, ``duration_s``, ``scan_start_s`` (onset of volume 0),
        ``end_missing_s`` (what the EEG lacks of the last volume), ``sfreq_recorded_hz``, and the
        median and largest ``peak_to_peak_uv_*`` over channels of the band-passed signal;
        ``gradient_share`` (of the power, that repeated with the volumes; only where it was looked
        at), ``gradient_volumes`` (markers of the average), ``heartbeats`` (of the pulse
        correction) and ``bad_channels`` (interpolated).
    cleaning : Cleaning
        What was removed.
    """

    power: np.ndarray
    channel_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    unit: str
    sfreq_hz: float
    quality: dict[str, float]
    cleaning: Cleaning


class _Signal(Protocol):
    """Band-passed signal, computed or at hand."""

    def span(self, start: int, stop: int) -> np.ndarray:
        """Samples (channel, sample) of a range, volume 0 being at sample 0."""


@dataclass(frozen=True)
class _Scan:
    """A recording, its scalp channels and volumes, as all steps need them."""

    eeg: ContinuousEeg
    channels: np.ndarray
    onsets: np.ndarray
    tr_s: float
    config: EegConfig
    dummy_scans: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scalp channels."""
        return tuple(self.eeg.channel_names[channel] for channel in self.channels)


@dataclass(frozen=True)
class _Measured:
    """Power (volume, channel, bin), amplitude (channel,), rate of the signal, corrections."""

    power: np.ndarray
    peak_to_peak_uv: np.ndarray
    sfreq_hz: float
    cleaning: Cleaning


def eeg_features(
    recording: Recording,
    n_volumes: int | None,
    tr_s: float,
    config: EegConfig,
    dummy_scans: int,
) -> EegFeatures:
    """Spectral power of the EEG of each BOLD volume.

    The continuous signal is band-passed (zero phase) and decimated; the power of `windows_per_tr`
    Hann windows, whose middles lie evenly between the volume's own marker and the next, is
    averaged. Filtering before cutting matters: a 1 Hz high-pass is longer than a volume. The
    recording is read in blocks, so memory does not grow with its length; where scanner artifacts or
    bad channels are to be corrected, the band-passed signal is held at 250 Hz.

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
    dummy_scans : int
        First volumes to leave out.

    Returns
    -------
    EegFeatures

    Raises
    ------
    DataError
        If the recording is damaged, its volume markers do not fit the BOLD run, its channels
        cannot be used, or an artifact cannot be removed as asked.
    ConfigError
        If the window is longer than a volume or no frequency is left.
    """
    eeg = open_eeg(recording.eeg_path, config.marker)
    return features_of(eeg, n_volumes, tr_s, config, dummy_scans)


def features_of(
    eeg: ContinuousEeg,
    n_volumes: int | None,
    tr_s: float,
    config: EegConfig,
    dummy_scans: int,
) -> EegFeatures:
    """Spectral power of an opened recording; see `eeg_features`."""
    scan = _open_scan(eeg, n_volumes, tr_s, config, dummy_scans)
    bins_hz = bin_frequencies(config)
    plan = _plan(scan)
    measured = (_measure_corrected if plan.anything else _measure)(scan, bins_hz, plan)
    power, frequencies_hz = measured.power, bins_hz
    if config.features == "bands":
        power = power @ band_average(bins_hz)
        frequencies_hz = np.array([np.mean(edges) for edges in BANDS_HZ.values()])
    return EegFeatures(
        power=power,
        channel_names=scan.names,
        frequencies_hz=frequencies_hz,
        unit=f"uV^2 per {1 / config.window_s:g} Hz bin",
        sfreq_hz=measured.sfreq_hz,
        quality=_quality(scan, measured),
        cleaning=measured.cleaning,
    )


def _open_scan(
    eeg: ContinuousEeg,
    n_volumes: int | None,
    tr_s: float,
    config: EegConfig,
    dummy_scans: int,
) -> _Scan:
    """Find the channels and volumes of a recording."""
    _check_window(config, tr_s)
    _check_rate(eeg, config)
    channels = scalp_channels(eeg, config)
    onsets = volume_onsets(eeg, n_volumes, tr_s, config)
    if n_volumes is not None:
        # Cut EEG begins later than the run, and has less to drop.
        dummy_scans -= config.first_volume or 0
    _check_volumes_left(eeg, len(onsets), dummy_scans)
    return _Scan(eeg, channels, onsets, tr_s, config, dummy_scans)


def _plan(scan: _Scan) -> Plan:
    """What is to be corrected."""
    config, share = scan.config, float("nan")
    # EEG without markers was cut to the scan, and corrected.
    if config.gradient_artifact.remove == "auto" and config.marker is not None:
        share = probe_gradient_share(scan.eeg, scan.channels, scan.onsets, scan.tr_s, config)
    where = scan.eeg.header_path
    return plan_cleaning(config, share, LOCKED_SHARE, ecg_channel(scan.eeg), where)


def _measure(scan: _Scan, bins_hz: np.ndarray, plan: Plan) -> _Measured:
    """Power of the signal as it was recorded, block by block."""
    eeg, config = scan.eeg, scan.config
    factor = decimation_factor(eeg.sfreq_hz, config.sfreq_hz)
    signal = WatchedSignal(eeg, scan.channels)
    bandpass = Bandpass(
        signal.read, eeg.n_samples, eeg.sfreq_hz, config.band_hz, factor, int(scan.onsets[0])
    )
    power, peak_to_peak_uv = _power(scan, bandpass, bins_hz, factor)
    signal.check()
    spectrum_db = _decibel(power)
    cleaning = Cleaning(scan.names, bins_hz, spectrum_db, spectrum_db)
    return _Measured(
        power,
        peak_to_peak_uv,
        eeg.sfreq_hz / factor,
        replace(cleaning, gradient_share=plan.gradient_share),
    )


def _measure_corrected(scan: _Scan, bins_hz: np.ndarray, plan: Plan) -> _Measured:
    """Power of the signal without scanner artifacts and bad channels."""
    eeg, config, where = scan.eeg, scan.config, scan.eeg.header_path
    even = scan.onsets.astype(float)
    if plan.gradient:
        check_enough_volumes(len(even), config.gradient_artifact.volumes, where)
        even = even_onsets(scan.onsets, eeg.sfreq_hz, where)
    channels = scan.channels if plan.ecg is None else np.append(scan.channels, plan.ecg)
    watched = WatchedSignal(eeg, channels)
    signal = read_scan(watched.read, eeg, scan.onsets, scan.tr_s, config, plan.gradient)
    if not plan.bad_channels:
        watched.check()
    factor = scan_factor(eeg, config)
    before, _ = _power(scan, _AtHand(signal[: len(scan.channels)]), bins_hz, factor)
    cleaned = clean(
        signal,
        eeg.sfreq_hz / factor,
        (even - scan.onsets[0]) / factor,
        scan.names,
        {name: why for name, why in watched.faults().items() if name in scan.names},
        plan,
        config,
        where,
    )
    power, peak_to_peak_uv = _power(scan, _AtHand(cleaned.signal), bins_hz, factor)
    cleaning = Cleaning(
        channel_names=scan.names,
        frequencies_hz=bins_hz,
        before_db=_decibel(before),
        after_db=_decibel(power),
        bad_channels=cleaned.bad_channels,
        gradient_share=plan.gradient_share,
        n_volumes=len(even) if plan.gradient else 0,
        n_heartbeats=cleaned.n_heartbeats,
        reference=config.reference,
        spatial_filter=config.spatial_filter,
    )
    return _Measured(power, peak_to_peak_uv, eeg.sfreq_hz / factor, cleaning)


@dataclass(frozen=True)
class _AtHand:
    """A signal that lies in memory."""

    signal: np.ndarray

    def span(self, start: int, stop: int) -> np.ndarray:
        """Samples of a range; the last ones may lie a rounding error behind the end."""
        part = self.signal[:, start:stop]
        return np.pad(part, ((0, 0), (0, stop - start - part.shape[1])), mode="edge")


def _quality(scan: _Scan, measured: _Measured) -> dict[str, float]:
    """Numbers by which a person accepts or rejects the recording."""
    eeg, onsets, cleaning = scan.eeg, scan.onsets, measured.cleaning
    quality = spacing_quality(onsets, eeg.sfreq_hz, scan.tr_s) | {
        "duration_s": eeg.duration_s,
        "scan_start_s": float(onsets[0] / eeg.sfreq_hz),
        "end_missing_s": max(0.0, float(onsets[-1] / eeg.sfreq_hz + scan.tr_s - eeg.duration_s)),
        "sfreq_recorded_hz": eeg.sfreq_hz,
        "peak_to_peak_uv_median": float(np.median(measured.peak_to_peak_uv)),
        "peak_to_peak_uv_max": float(measured.peak_to_peak_uv.max()),
        "gradient_volumes": cleaning.n_volumes,
        "heartbeats": cleaning.n_heartbeats,
        "bad_channels": len(cleaning.bad_channels),
    }
    if np.isfinite(cleaning.gradient_share):
        quality["gradient_share"] = cleaning.gradient_share
    return quality


def _decibel(power: np.ndarray) -> np.ndarray:
    """Mean over volumes in dB re 1 uV^2."""
    return 10 * np.log10(np.maximum(power.mean(axis=0), np.finfo(np.float32).tiny))


def _check_window(config: EegConfig, tr_s: float) -> None:
    """Refuse a Fourier window that does not fit into a volume."""
    if config.window_s > tr_s:
        raise ConfigError(
            f"the Fourier window of {config.window_s} s is longer than the TR of {tr_s} s",
            where="eeg.window_s",
            remedy="use a window of at most one TR",
        )


def _check_rate(eeg: ContinuousEeg, config: EegConfig) -> None:
    """Refuse a rate at which the band-pass has no room for its upper slope."""
    if eeg.sfreq_hz <= 2.5 * config.band_hz[1]:
        raise DataError(
            f"sampled at {eeg.sfreq_hz:g} Hz, too slow for a band-pass up to "
            f"{config.band_hz[1]:g} Hz",
            where=eeg.header_path,
            remedy="lower the upper edge of eeg.band_hz below 0.4 x the sampling rate",
        )


def _check_volumes_left(eeg: ContinuousEeg, n_volumes: int, dummy_scans: int) -> None:
    """Refuse a recording of which nothing is left."""
    if n_volumes <= dummy_scans:
        raise DataError(
            f"the EEG covers {n_volumes} volumes and the first {dummy_scans} are dropped",
            where=eeg.header_path,
            remedy="check that the recording is whole, or lower dummy_scans",
        )


def _window_starts(scan: _Scan, factor: int, length: int) -> np.ndarray:
    """Windows (volume, window) in samples of the decimated signal, volume 0 being its origin.

    They stay inside the scan: before and after it the EEG has other artifacts. The last volume may
    be cut.
    """
    eeg, onsets = scan.eeg, scan.onsets
    sfreq_hz = eeg.sfreq_hz / factor
    recorded_s = min(scan.tr_s, eeg.duration_s - onsets[-1] / eeg.sfreq_hz)
    scan_samples = (onsets[-1] - onsets[0]) / factor + recorded_s * sfreq_hz
    return place_windows(
        (onsets - onsets[0]) / factor,
        scan.tr_s * sfreq_hz,
        length,
        scan.config.windows_per_tr,
        math.floor(scan_samples + 1e-6),
    )


def _power(
    scan: _Scan, signal: _Signal, bins_hz: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean power (volume, channel, bin) and peak-to-peak amplitude (channel,)."""
    config = scan.config
    spectrum = PowerSpectrum(bins_hz, config.window_s, scan.eeg.sfreq_hz / factor)
    starts = _window_starts(scan, factor, spectrum.length)[scan.dummy_scans :]
    block_volumes = max(1, round(BLOCK_S / scan.tr_s))
    power, lowest, highest = [], [], []
    for block, block_starts in _blocks(signal, spectrum.length, starts, block_volumes):
        power += [spectrum.mean_power(block, volume) for volume in block_starts]
        lowest.append(block.min(axis=1))
        highest.append(block.max(axis=1))
    return np.stack(power), np.max(highest, axis=0) - np.min(lowest, axis=0)


def _blocks(
    signal: _Signal, length: int, starts: np.ndarray, block_volumes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Filtered signal of a few volumes at a time, with their windows counted from its start."""
    for volume in range(0, len(starts), block_volumes):
        block_starts = starts[volume : volume + block_volumes]
        first = int(block_starts.min())
        yield signal.span(first, int(block_starts.max()) + length), block_starts - first
