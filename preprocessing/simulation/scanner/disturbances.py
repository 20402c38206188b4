"""What disturbs the EEG of real recordings even after correction, and noise that BOLD shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ, RealismConfig
from preprocessing.simulation.brain.activity import POWER_SFREQ_HZ, WARM_UP_S, Timeline, hemodynamic
from preprocessing.simulation.noise import smooth_noise, spectral_noise
from preprocessing.simulation.scanner.head_motion import framewise_mm, head_motion
from preprocessing.simulation.seeding import generator

_EFFORT_S = 6.0  # smoothness of breathing effort: BOLD follows it below 0.05 Hz
_EFFORT_LOG_SD = 0.5
_MUSCLE_UV_PER_PERCENT = 4.0
_MOTION_UV_PER_MM = 60.0
_SLICES = 30
_NOISY_UV, _LOOSE_UV = 60.0, 150.0


@dataclass(frozen=True)
class Disturbances:
    """What happens to a recording; None where it does not happen.

    Attributes
    ----------
    motion : ndarray of shape (volume, 6) or None
        Of `head_motion`.
    effort_log : ndarray of shape (sample,) or None
        Log amplitude of breathing effort at `POWER_SFREQ_HZ`, from `WARM_UP_S` before the EEG on.
    shared_percent : ndarray of shape (volume,) or None
        Percent signal change of the whole brain that follows it.
    """

    motion: np.ndarray | None
    effort_log: np.ndarray | None
    shared_percent: np.ndarray | None


def draw_disturbances(
    seed: int, subject: str, timeline: Timeline, realism: RealismConfig
) -> Disturbances:
    """Draw what EEG and BOLD both show: movements of the head and breathing effort."""
    n_volumes = len(timeline.onsets_s)
    motion = head_motion(seed, subject, n_volumes, timeline.tr_s, realism.motion_mm)
    if not realism.shared_noise_percent:
        return Disturbances(motion, None, None)
    rng = generator(seed, subject, "breathing effort")
    n_samples = round((WARM_UP_S + timeline.duration_s) * POWER_SFREQ_HZ) + 2
    effort_log = _EFFORT_LOG_SD * smooth_noise(rng, (n_samples,), POWER_SFREQ_HZ, _EFFORT_S)
    course = hemodynamic(np.exp(2 * effort_log)[None], timeline, delay_s=0.0)[:, 0]
    return Disturbances(motion, effort_log, realism.shared_noise_percent * course)


def bad_channels(seed: int, subject: str, n_channels: int, probability: float) -> np.ndarray:
    """Draw which scalp channels are bad, (channel,) bool; never more than half of them."""
    rng = generator(seed, subject, "bad channels")
    order = rng.permutation(n_channels)
    bad = np.zeros(n_channels, dtype=bool)
    bad[order[: min(rng.binomial(n_channels, probability), n_channels // 2)]] = True
    return bad


def disturb(
    scalp_uv: np.ndarray,
    seed: int,
    subject: str,
    timeline: Timeline,
    realism: RealismConfig,
    drawn: Disturbances,
) -> None:
    """Add disturbances to the scalp channels (channel, sample) at 250 Hz, in place.

    Each has random numbers of its own: one does not change another.
    """
    if realism.residual_uv:
        rng = generator(seed, subject, "residual artifact")
        scalp_uv += _residual(rng, scalp_uv.shape, timeline, realism.residual_uv)
    if drawn.motion is not None:
        rng = generator(seed, subject, "movement in the EEG")
        scalp_uv += _movement(rng, scalp_uv.shape, timeline, framewise_mm(drawn.motion))
    if drawn.effort_log is not None:
        rng = generator(seed, subject, "muscle noise")
        size = _MUSCLE_UV_PER_PERCENT * realism.shared_noise_percent
        scalp_uv += size * _muscle_noise(rng, scalp_uv.shape, drawn.effort_log)
    if realism.bad_channels:
        bad = bad_channels(seed, subject, len(scalp_uv), realism.bad_channels)
        _spoil(generator(seed, subject, "kinds of bad channels"), scalp_uv, bad)


def _residual(
    rng: np.random.Generator, shape: tuple[int, int], timeline: Timeline, size_uv: float
) -> np.ndarray:
    """Harmonics of the slice frequency below 40 Hz, with amplitudes that change over 20 s."""
    n_channels, n_samples = shape
    times_s = np.arange(n_samples) / SOURCE_SFREQ_HZ - timeline.onsets_s[0]
    inside = (times_s >= 0) & (times_s < timeline.tr_s * len(timeline.onsets_s))
    slow = smooth_noise(rng, (n_samples // SOURCE_SFREQ_HZ + 2,), 1.0, 20.0)
    envelope = np.exp(0.5 * np.interp(np.arange(n_samples) / SOURCE_SFREQ_HZ, *_indexed(slow)))
    slice_hz = _SLICES / timeline.tr_s
    harmonics = np.arange(1, max(int(40 / slice_hz), 1) + 1) * slice_hz
    artifact = np.zeros(shape)
    for frequency_hz in harmonics:
        gains = rng.standard_normal(n_channels) / np.sqrt(len(harmonics))
        wave = np.sqrt(2) * np.sin(2 * np.pi * frequency_hz * times_s + rng.uniform(0, 2 * np.pi))
        artifact += np.multiply.outer(gains, wave * envelope * inside)
    return (size_uv * artifact).astype(np.float32)


def _movement(
    rng: np.random.Generator, shape: tuple[int, int], timeline: Timeline, framewise: np.ndarray
) -> np.ndarray:
    """Slow waves (below 6 Hz) with one random map, as large as the volume's displacement."""
    wave = spectral_noise(rng, (1, shape[1]), SOURCE_SFREQ_HZ, lambda f: (f > 0.5) * np.exp(-f / 2))
    times_s = np.arange(shape[1]) / SOURCE_SFREQ_HZ
    size_uv = _MOTION_UV_PER_MM * np.interp(times_s, timeline.onsets_s, framewise, 0, 0)
    return np.multiply.outer(rng.standard_normal(shape[0]), wave[0] * size_uv).astype(np.float32)


def _muscle_noise(
    rng: np.random.Generator, shape: tuple[int, int], effort_log: np.ndarray
) -> np.ndarray:
    """Noise above 15 Hz, independent between channels, that follows breathing effort."""
    noise = spectral_noise(rng, shape, SOURCE_SFREQ_HZ, lambda f: 1 / (1 + np.exp((15 - f) / 2)))
    times_s = WARM_UP_S + np.arange(shape[1]) / SOURCE_SFREQ_HZ
    course = np.exp(np.interp(times_s * POWER_SFREQ_HZ, *_indexed(effort_log)))
    return noise * course.astype(np.float32)


def _spoil(rng: np.random.Generator, scalp_uv: np.ndarray, bad: np.ndarray) -> None:
    """Make each bad channel flat, noisy, or loose (large jumps from half of the time on)."""
    n_samples = scalp_uv.shape[1]
    for channel in np.flatnonzero(bad):
        kind = rng.integers(3)
        noise = rng.standard_normal((n_samples,), dtype=np.float32)
        if kind == 0:
            scalp_uv[channel] = 0.1 * noise
        elif kind == 1:
            scalp_uv[channel] += _NOISY_UV * noise
        else:
            start = int(rng.uniform(0.2, 0.8) * n_samples)
            scalp_uv[channel, start:] += _LOOSE_UV * noise[start:]


def _indexed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and values, as `numpy.interp` takes them."""
    return np.arange(len(values)), values
