"""What the scanner adds to the EEG: gradient artifact and pulse artifact.

The gradient artifact is the voltage that switched gradients induce in electrodes and leads. It
repeats with every slice and volume (Allen et al. 2000, NeuroImage 12:230-239). The pulse artifact
comes from the head and its vessels moving in the static field, some 210 ms after each R peak (Allen
et al. 1998, NeuroImage 8:229-239; Niazy et al. 2005, NeuroImage 28:720-737).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ, ArtifactConfig
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation.brain.activity import Timeline
from preprocessing.simulation.brain.anatomy import EPI_SHAPE
from preprocessing.simulation.brain.head_model import SCALP_CHANNELS, electrode_offsets
from preprocessing.simulation.noise import smooth_noise
from preprocessing.simulation.seeding import generator

_N_PHASES = 2**17  # points of a volume's waveform
_AMPLIFIER_LOW_PASS_HZ = 250.0  # of MR amplifiers
_MOTION_SMOOTHNESS_S = 40.0
_SCANNING_SHARE = 0.95  # of a volume; the gradients rest before the next one
_SPOILER_SPREAD = 0.15  # relative, from slice to slice

PULSE_DELAY_S = 0.21  # from R peak to the pulse artifact's first extremum
_PULSE_WIDTHS_S = (0.050, 0.080)
_PULSE_DELAYS_S = (PULSE_DELAY_S, PULSE_DELAY_S + 0.13)
_PULSE_HEIGHTS = (1.0, 0.5)
_PULSE_GAIN_SD = (0.15, 0.30)  # beat-to-beat variation of the two parts
_PULSE_JITTER_S = 0.010


@dataclass(frozen=True)
class GradientArtifact:
    """Gradient artifact of a recording, computed where it is asked for.

    Attributes
    ----------
    timeline : Timeline
        Volumes; between and outside them the gradients are silent.
    waveforms : ndarray of shape (3, phase), float32
        Induced by each gradient axis in the course of a volume, periodic.
    weights_uv : ndarray of shape (3, 64), float32
        How strongly each channel picks up each axis.
    turned_weights_uv : ndarray of shape (3 movements, 3, 64), float32
        How that changes with each movement of the head.
    movement : ndarray of shape (volume, 3), float32
        The head's movements over the run, slow and unit-free.
    """

    timeline: Timeline
    waveforms: np.ndarray
    weights_uv: np.ndarray
    turned_weights_uv: np.ndarray
    movement: np.ndarray

    def block_uv(self, start: int, n_samples: int, sfreq_hz: float) -> np.ndarray:
        """Artifact of a range of samples, (sample, 64) float32 in uV."""
        times_s = (start + np.arange(n_samples)) / sfreq_hz
        onsets_s = self.timeline.onsets_s
        volume = np.searchsorted(onsets_s, times_s + 1e-9, side="right") - 1
        phase = (times_s - onsets_s[np.maximum(volume, 0)]) / self.timeline.tr_s
        scanning = (volume >= 0) & (phase < 1 - 1e-9)
        induced = self._waveforms_at(np.clip(phase, 0, 1)) * scanning
        artifact = induced.T @ self.weights_uv
        for course, turned in zip(self.movement.T, self.turned_weights_uv, strict=True):
            moved = np.interp(times_s, onsets_s, course).astype(np.float32)
            artifact += (induced * moved).T @ turned
        return artifact

    def _waveforms_at(self, phase: np.ndarray) -> np.ndarray:
        grid = np.arange(_N_PHASES + 1) / _N_PHASES
        closed = np.concatenate([self.waveforms, self.waveforms[:, :1]], axis=1)
        return np.stack([np.interp(phase, grid, wave) for wave in closed]).astype(np.float32)


def gradient_artifact(
    seed: int, subject: str, timeline: Timeline, strength: ArtifactConfig
) -> GradientArtifact | None:
    """Draw the gradient artifact of a subject; None where its strength is 0.

    The waveform of a slice holds the slopes of an EPI sequence (fat saturation, slice selection,
    phase encoding, readout, spoiler), after the low-pass of an MR amplifier. Channels pick the axes
    up by their place and their leads; the pick-up turns with slow movements of the head.
    """
    if not strength.gradient_mv:
        return None
    rng = generator(seed, subject, "gradient artifact")
    waveforms = _volume_waveforms(rng, timeline.tr_s)
    weights = _pick_up(rng)
    peaks = np.abs(weights.T @ waveforms[:, ::8]).max(axis=1)
    weights *= 1000 * strength.gradient_mv / np.median(peaks)
    turned = np.stack([_pick_up(rng) for _ in range(3)])
    turned *= (
        strength.head_motion
        * np.linalg.norm(weights)
        / np.linalg.norm(turned, axis=(1, 2))[:, None, None]
    )
    return GradientArtifact(timeline, waveforms, weights, turned, _movement(rng, timeline))


def pulse_artifact_uv(
    seed: int, subject: str, timeline: Timeline, beats_s: np.ndarray, strength: ArtifactConfig
) -> np.ndarray | None:
    """Draw the pulse artifact of a subject; None where its strength is 0.

    Two parts, each with a topography of its own (mostly opposite on the two sides of the head) and
    a gain that varies from beat to beat, as does the delay from the R peak.

    Returns
    -------
    ndarray of shape (63, sample), float32, or None
        At 250 Hz in uV, scalp channels alone.
    """
    if not strength.pulse_uv:
        return None
    rng = generator(seed, subject, "pulse artifact")
    times_s = np.arange(timeline.n_samples) / SOURCE_SFREQ_HZ
    topographies = np.stack([h * _pulse_topography(rng) for h in _PULSE_HEIGHTS], axis=1)
    jitter_s = _PULSE_JITTER_S * rng.standard_normal(len(beats_s))
    courses = np.zeros((len(_PULSE_DELAYS_S), timeline.n_samples))
    for course, delay_s, width_s, sd in zip(
        courses, _PULSE_DELAYS_S, _PULSE_WIDTHS_S, _PULSE_GAIN_SD, strict=True
    ):
        gains = 1 + sd * rng.standard_normal(len(beats_s))
        for peak_s, gain in zip(beats_s + delay_s + jitter_s, gains, strict=True):
            first, last = np.searchsorted(times_s, (peak_s - 8 * width_s, peak_s + 8 * width_s))
            course[first:last] += gain * _pulse_wave((times_s[first:last] - peak_s) / width_s)
    topographies *= strength.pulse_uv / np.median(np.abs(_mean_pulse(topographies)).max(axis=1))
    # Not by BLAS: its last bits depend on the number of threads.
    return np.einsum("ck,ks->cs", topographies, courses).astype(np.float32)


def _mean_pulse(topographies: np.ndarray) -> np.ndarray:
    """What an average beat leaves on each channel, (channel, sample)."""
    times_s = np.arange(-0.3, 1.0, 1 / SOURCE_SFREQ_HZ)
    parts = zip(_PULSE_DELAYS_S, _PULSE_WIDTHS_S, strict=True)
    return topographies @ np.stack([_pulse_wave((times_s - at) / width) for at, width in parts])


def _pulse_wave(time: np.ndarray) -> np.ndarray:
    """A peak of height 1 at time 0 between two dips, without mean."""
    return (1 - time**2) * np.exp(-0.5 * time**2)


def _pulse_topography(rng: np.random.Generator) -> np.ndarray:
    """Gain of each scalp channel: along a direction that is mostly left to right."""
    direction = np.array([1.0, 0.0, 0.0]) + 0.5 * rng.standard_normal(3)
    smooth = electrode_offsets() @ direction
    return smooth / np.std(smooth) + 0.2 * rng.standard_normal(len(smooth))


def _pick_up(rng: np.random.Generator) -> np.ndarray:
    """Relative pick-up (axis, 64): linear in the electrode's place, plus the loop of its lead."""
    offsets = electrode_offsets()
    placed = (offsets / np.std(offsets)) @ rng.standard_normal((3, 3))
    weights = placed.T + 0.5 * rng.standard_normal((3, len(SCALP_CHANNELS)))
    ecg = 1.5 * rng.standard_normal(3)
    return np.insert(weights, CHANNELS.index("ECG"), ecg, axis=1).astype(np.float32)


def _movement(rng: np.random.Generator, timeline: Timeline) -> np.ndarray:
    """Slow movements of the head, (volume, 3), and a drift over the run, standard deviation 1."""
    n_volumes = len(timeline.onsets_s)
    slow = smooth_noise(rng, (3, n_volumes), 1 / timeline.tr_s, _MOTION_SMOOTHNESS_S)
    drift = np.linspace(-1.7, 1.7, n_volumes) * rng.choice([-1, 1], size=(3, 1))
    return (np.sqrt(0.5) * (slow + drift)).T.astype(np.float32)


def _volume_waveforms(rng: np.random.Generator, tr_s: float) -> np.ndarray:
    """Slope of each gradient axis over a volume as the amplifier lets it through, peak 1."""
    n_slices = EPI_SHAPE[2]
    times_s = np.arange(_N_PHASES) * tr_s / _N_PHASES
    gradients = np.zeros((3, _N_PHASES))
    for start_s in np.arange(n_slices) * _SCANNING_SHARE * tr_s / n_slices:
        spoiler = 1 + _SPOILER_SPREAD * rng.standard_normal()
        for axis, begin_s, plateau_s, height in _slice_lobes(spoiler):
            # Zero-order lobes with ramps of 0.5 ms.
            shape = [0.0, height, height, 0.0]
            corners = (
                start_s + begin_s + np.array([0, 0.5e-3, 0.5e-3 + plateau_s, 1e-3 + plateau_s])
            )
            first, last = np.searchsorted(times_s, (corners[0], corners[-1]))
            gradients[axis, first:last] += np.interp(times_s[first:last], corners, shape)
    frequency_hz = np.fft.rfftfreq(_N_PHASES, tr_s / _N_PHASES)
    low_pass = 1 / np.sqrt(1 + (frequency_hz / _AMPLIFIER_LOW_PASS_HZ) ** 10)
    slopes = np.fft.irfft(
        np.fft.rfft(gradients) * 2j * np.pi * frequency_hz * low_pass, n=_N_PHASES
    )
    return (slopes / np.abs(slopes).max(axis=1, keepdims=True)).astype(np.float32)


def _slice_lobes(spoiler: float) -> list[tuple[int, float, float, float]]:
    """Gradient lobes of one slice: axis, begin (s), plateau (s), height."""
    lobes = [(axis, 0.5e-3, 2e-3, 0.6) for axis in range(3)]  # fat saturation
    lobes += [(2, 6e-3, 3e-3, 1.0), (2, 10e-3, 1.2e-3, -1.0)]  # slice selection, rephasing
    lobes += [(0, 10e-3, 1e-3, -0.8), (1, 10e-3, 1e-3, 0.8)]  # to the edge of k-space
    lobes += [(0, 12e-3 + 1e-3 * line, 0.0, (-1.0) ** line) for line in range(32)]  # readout
    lobes += [(1, 12.5e-3 + 1e-3 * line, 0.0, -0.05) for line in range(31)]  # blips
    return [*lobes, (2, 46e-3, 4e-3, 1.2 * spoiler), (1, 46e-3, 4e-3, 0.4 * spoiler)]
