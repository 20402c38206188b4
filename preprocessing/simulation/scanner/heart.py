"""Heart and breath: the ECG channel and the rhythms that BOLD shows as physiological noise."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ

_BREATH_HZ = 0.27
# P wave, Q, R, S, T wave: delay from the R peak (s), width (s), height (uV).
_WAVES = (
    (-0.17, 0.025, 90.0),
    (-0.03, 0.010, -120.0),
    (0.0, 0.011, 1000.0),
    (0.03, 0.010, -220.0),
    (0.28, 0.050, 260.0),
)


def heartbeats(rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """Return times of heartbeats (s), faster while breathing in, that cover the recording."""
    mean_s = rng.uniform(0.75, 1.05)
    count = int(duration_s / mean_s * 1.5) + 10
    slow = np.sin(2 * np.pi * _BREATH_HZ * mean_s * np.arange(count))
    intervals_s = mean_s * (1 + 0.04 * slow + 0.02 * rng.standard_normal(count))
    beats_s = np.cumsum(intervals_s) - 2 * mean_s
    return beats_s[beats_s < duration_s + mean_s]


def ecg_uv(beats_s: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the ECG, (sample,) float32 uV at 250 Hz."""
    margin = SOURCE_SFREQ_HZ
    impulses = np.zeros(n_samples + 2 * margin, dtype=np.float32)
    positions = np.rint(beats_s * SOURCE_SFREQ_HZ).astype(int) + margin
    impulses[positions[(positions >= 0) & (positions < len(impulses))]] = 1
    times_s = np.arange(-100, 101) / SOURCE_SFREQ_HZ
    beat = sum(
        height * np.exp(-0.5 * ((times_s - delay) / width) ** 2) for delay, width, height in _WAVES
    )
    return np.convolve(impulses, beat, mode="same")[margin:-margin].astype(np.float32)


def cardiac_phase(beats_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return the phase of the heart cycle in radians: 2 pi per beat (RETROICOR's definition)."""
    return 2 * np.pi * np.interp(times_s, beats_s, np.arange(len(beats_s)))


def respiratory_phase(rng: np.random.Generator, times_s: np.ndarray) -> np.ndarray:
    """Return the phase of breathing in radians, at a rate that wanders a little."""
    rate_hz = _BREATH_HZ * rng.uniform(0.9, 1.1)
    wander = 0.8 * np.sin(2 * np.pi * 0.013 * times_s + rng.uniform(0, 2 * np.pi))
    return 2 * np.pi * rate_hz * times_s + wander
