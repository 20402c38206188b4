"""Scanner artifacts and bad channels of one recording: what is to be done, and doing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.preprocess import BANDS_HZ, EegConfig, PulseArtifactConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.artifacts.bad_channels import find_bad_channels
from preprocessing.artifacts.gradient import subtract_average
from preprocessing.artifacts.pulse import find_heartbeats, pulse_by_channel, pulse_of_head
from preprocessing.artifacts.spatial_filters import interpolation, surface_laplacian

# Gradient and pulse artifact hide each other's mean: estimated in turn, this often.
_ROUNDS = {"head": 6, "channel": 2}


@dataclass(frozen=True)
class Cleaning:
    """What was removed from the EEG of a recording, for people to judge.

    Attributes
    ----------
    channel_names : tuple of str
        In the order of the spectra.
    frequencies_hz : array (bin,)
        Of the spectra.
    before_db, after_db : array (channel, bin) of float32
        Power per bin in dB re 1 uV^2, mean over volumes, before and after all corrections.
    bad_channels : dict of str to str
        Interpolated channels and what was wrong with them.
    gradient_share : float
        Share of the power that repeated with the volumes; NaN where it was not looked at.
    n_volumes : int
        Volume markers that the gradient artifact was averaged by; 0 = it was not removed.
    n_heartbeats : int
        Beats by which the pulse artifact was removed; 0 = it was not.
    reference, spatial_filter : str
        Settings ``eeg.reference`` and ``eeg.spatial_filter``.
    residual_db : dict of str to (float, float)
        By band, power after correction against that of the artifact-free truth in dB: median and
        worst channel. Empty where the truth is not known.
    """

    channel_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    before_db: np.ndarray
    after_db: np.ndarray
    bad_channels: dict[str, str] = field(default_factory=dict)
    gradient_share: float = float("nan")
    n_volumes: int = 0
    n_heartbeats: int = 0
    reference: str = "recorded"
    spatial_filter: str = "none"
    residual_db: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is to be done to a recording.

    Attributes
    ----------
    gradient : bool
        Remove the gradient artifact.
    gradient_share : float
        What that was decided by; NaN where the config did.
    ecg : int or None
        Channel that shows the heartbeats; None = leave the pulse artifact.
    bad_channels : bool
        Look for bad channels and interpolate them.
    reference : "recorded" or "average"
    spatial_filter : "none" or "csd"
    """

    gradient: bool
    gradient_share: float
    ecg: int | None
    bad_channels: bool
    reference: str
    spatial_filter: str

    @property
    def anything(self) -> bool:
        """Whether the signal is changed at all."""
        changed = self.gradient or self.ecg is not None or self.bad_channels
        return changed or self.reference != "recorded" or self.spatial_filter != "none"


@dataclass(frozen=True)
class Cleaned:
    """A signal after all corrections (channel, sample), and what they found."""

    signal: np.ndarray
    bad_channels: dict[str, str]
    n_heartbeats: int


def clean(
    signal: np.ndarray,
    sfreq_hz: float,
    onsets: np.ndarray,
    names: tuple[str, ...],
    known_bad: dict[str, str],
    plan: Plan,
    config: EegConfig,
    where: Path,
) -> Cleaned:
    """Remove what does not come from the brain: gradient artifact, bad channels, pulse artifact.

    Parameters
    ----------
    signal : array (channel, sample) of float32
        Band-passed scalp channels; behind them the ECG, where the plan has one. Changed in place.
    sfreq_hz : float
        Sampling rate in Hz.
    onsets : array (volume,) of float64
        Even onsets of the volumes in samples of the signal.
    names : tuple of str
        Scalp channels.
    known_bad : dict of str to str
        Channels that are bad already by what was read (flat, saturated).
    plan : Plan
    config : EegConfig
    where : Path
        The recording, for messages.

    Returns
    -------
    Cleaned

    Raises
    ------
    DataError
        If the ECG shows no heartbeats, or too few good channels are left.
    """
    scalp = signal[: len(names)]
    bad = dict(known_bad)
    scalp[[names.index(name) for name in bad]] = 0
    average = _Average(onsets, config.gradient_artifact.volumes if plan.gradient else 0)
    if plan.bad_channels:
        bad |= find_bad_channels(average.without(scalp), sfreq_hz, names)
        _check_enough_left(names, bad, config, where)
        scalp[[names.index(name) for name in bad]] = 0
    beats = np.empty(0, dtype=int)
    if plan.ecg is not None:
        beats = find_heartbeats(average.without(signal[-1:])[0], sfreq_hz, where)
        scalp = scalp - _pulse(scalp, sfreq_hz, beats, average, config.pulse_artifact)
    cleaned = average.without(scalp)
    matrix = _remix(names, bad, plan, where)
    return Cleaned(cleaned if matrix is None else matrix @ cleaned, bad, len(beats))


@dataclass(frozen=True)
class _Average:
    """Volumes and the number of neighbors that their gradient artifact is averaged from."""

    onsets: np.ndarray
    n_neighbors: int

    def without(self, signal: np.ndarray) -> np.ndarray:
        """A copy of the signal without gradient artifact, if it is to be removed."""
        signal = signal.copy()
        if self.n_neighbors:
            subtract_average(signal, self.onsets, self.n_neighbors)
        return signal


def _pulse(
    scalp: np.ndarray,
    sfreq_hz: float,
    beats: np.ndarray,
    average: _Average,
    config: PulseArtifactConfig,
) -> np.ndarray:
    """Pulse artifact (channel, sample), estimated in turn with the gradient artifact."""
    pulse = np.zeros_like(scalp)
    for _ in range(_ROUNDS[config.method]):
        left = average.without(scalp - pulse)
        if config.method == "channel":
            pulse = pulse_by_channel(left + pulse, sfreq_hz, beats, config.components)
        else:
            # What is left gets closer to the EEG with every round.
            pulse = pulse_of_head(left + pulse, sfreq_hz, beats, config.components, left)
    return pulse


def _remix(
    names: tuple[str, ...], bad: dict[str, str], plan: Plan, where: Path
) -> np.ndarray | None:
    """Matrix of interpolation, spatial filter or reference; None = channels stay as they are."""
    if not bad and plan.reference == "recorded" and plan.spatial_filter == "none":
        return None
    matrix = interpolation(names, list(bad), where) if bad else np.eye(len(names), dtype=np.float32)
    if plan.spatial_filter == "csd":
        return surface_laplacian(names, where) @ matrix
    return matrix - matrix.mean(axis=0) if plan.reference == "average" else matrix


def _check_enough_left(
    names: tuple[str, ...], bad: dict[str, str], config: EegConfig, where: Path
) -> None:
    """Refuse a recording with too few good channels."""
    if len(names) - len(bad) < config.min_channels:
        raise DataError(
            f"{len(bad)} of {len(names)} channels are bad ("
            + "; ".join(f"{name} {reason}" for name, reason in bad.items())
            + f"), eeg.min_channels asks for {config.min_channels} good ones",
            where=where,
            remedy="look at the recording; leave it out (source.exclude), or lower "
            "eeg.min_channels",
        )


def plan_cleaning(
    config: EegConfig, gradient_share: float, locked: float, ecg: int | None, where: Path
) -> Plan:
    """Decide what is to be done.

    Parameters
    ----------
    config : EegConfig
    gradient_share : float
        Share of the power that repeats with the volumes; NaN where it was not looked at.
    locked : float
        Share above which there is a gradient artifact.
    ecg : int or None
        The ECG channel.
    where : Path
        The recording, for messages.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        If the gradient artifact is to be removed from EEG without volume markers.
    DataError
        If the pulse artifact is to be removed and there is no ECG channel.
    """
    gradient, pulse = config.gradient_artifact.remove, config.pulse_artifact.remove
    if gradient is True and config.marker is None:
        raise ConfigError(
            "the gradient artifact cannot be removed without volume markers (eeg.marker: null)",
            where="eeg.gradient_artifact.remove",
            remedy="name the volume marker in eeg.marker, or set it to auto or false",
        )
    if pulse is True and ecg is None:
        raise DataError(
            "the pulse artifact cannot be removed: there is no ECG channel (by type, or by a name "
            "such as ECG or EKG)",
            where=where,
            remedy="set eeg.pulse_artifact.remove: false, or name the channel ECG",
        )
    remove_gradient = gradient_share > locked if gradient == "auto" else gradient
    # Whoever corrected the gradient artifact has seen to the pulse artifact too.
    remove_pulse = remove_gradient if pulse == "auto" else pulse
    return Plan(
        gradient=bool(remove_gradient),
        gradient_share=gradient_share,
        ecg=ecg if remove_pulse else None,
        bad_channels=config.bad_channels == "interpolate",
        reference=config.reference,
        spatial_filter=config.spatial_filter,
    )


def residual_db(
    power: np.ndarray, truth: np.ndarray, frequencies_hz: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Band power against that of the artifact-free truth.

    Parameters
    ----------
    power, truth : array (volume, channel, bin)
        Of the corrected and of the artifact-free recording.
    frequencies_hz : array (bin,)

    Returns
    -------
    dict of str to (float, float)
        For each band (delta, theta, alpha, beta) that has bins, median and worst over channels in
        dB of the power's mean over volumes.
    """
    found = {}
    for name, (low, high) in BANDS_HZ.items():
        band = (frequencies_hz >= low) & (frequencies_hz < high)
        if band.any():
            ratio = power[..., band].mean(axis=(0, 2)) / truth[..., band].mean(axis=(0, 2))
            decibel = 10 * np.log10(ratio)
            worst = decibel[np.abs(decibel).argmax()]
            found[name] = (float(np.median(decibel)), float(worst))
    return found
