"""What the EEG cap and amplifier record of the sources: 63 scalp channels and an ECG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.simulate import (
    SOURCE_SFREQ_HZ,
    ArtifactConfig,
    EegSignalConfig,
    RealismConfig,
)
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation.brain.activity import (
    Activity,
    Timeline,
    simulate_activity,
    vigilance_course,
)
from preprocessing.simulation.brain.head_model import leadfield
from preprocessing.simulation.noise import spectral_noise
from preprocessing.simulation.scanner.disturbances import Disturbances, disturb, draw_disturbances
from preprocessing.simulation.scanner.heart import ecg_uv, heartbeats
from preprocessing.simulation.scanner.interpolation import interpolated_blocks
from preprocessing.simulation.scanner.mri_artifacts import (
    GradientArtifact,
    gradient_artifact,
    pulse_artifact_uv,
)
from preprocessing.simulation.scanner.write_brainvision import Layout, Marker, write_brainvision
from preprocessing.simulation.seeding import generator

RESOLUTION_UV = 0.5
EXPORT_TAIL_SAMPLES = 24  # the exported segment ends shortly after the scan
_ECG_INDEX = CHANNELS.index("ECG")
_BLOCK_S = 4.0
_AMPLIFIER_STEPS = 2  # white noise of up to so many integer steps


@dataclass(frozen=True)
class SimulatedEeg:
    """A recording before it is written, and what made it.

    Attributes
    ----------
    signal_uv : ndarray of shape (64, sample), float32
        Channels in NODDI's order at 250 Hz.
    activity : Activity
        Of the sources.
    leadfield : ndarray of shape (63, region), float32
        uV per nA m.
    beats_s : ndarray of shape (beat,)
        Heartbeats.
    disturbances : Disturbances
        What the BOLD run shows as well.
    """

    signal_uv: np.ndarray
    activity: Activity
    leadfield: np.ndarray
    beats_s: np.ndarray
    disturbances: Disturbances


def simulate_eeg(
    seed: int,
    subject: str,
    timeline: Timeline,
    strength: EegSignalConfig,
    realism: RealismConfig | None = None,
) -> SimulatedEeg:
    """Draw a subject's sources, project them to the scalp, add what sensors add, and the ECG."""
    realism = realism or RealismConfig()
    vigilance_rng = generator(seed, subject, "vigilance")
    activity = simulate_activity(
        generator(seed, subject, "sources"),
        timeline,
        strength.source_nam,
        extra_delay_s=realism.hrf_delay_s * generator(seed, subject, "delay").standard_normal(),
        vigilance=vigilance_course(vigilance_rng, timeline, realism.vigilance),
    )
    shift_mm = realism.electrode_shift_mm * generator(seed, subject, "cap").standard_normal(2)
    dipole_rngs = generator(seed, "dipoles"), generator(seed, subject, "dipoles")
    field = leadfield(*dipole_rngs, (shift_mm[0], shift_mm[1]))
    # Not by BLAS: its last bits depend on the number of threads.
    scalp_uv = np.einsum("cr,rs->cs", field, activity.moment_nam)
    _add_sensor_noise(scalp_uv, generator(seed, subject, "sensors"), strength)
    disturbances = draw_disturbances(seed, subject, timeline, realism)
    disturb(scalp_uv, seed, subject, timeline, realism, disturbances)
    beats_s = heartbeats(generator(seed, subject, "heart"), timeline.duration_s)
    ecg = ecg_uv(beats_s, timeline.n_samples)
    signal_uv = np.insert(scalp_uv, _ECG_INDEX, ecg, axis=0)
    return SimulatedEeg(signal_uv, activity, field, beats_s, disturbances)


def with_pulse_artifact(
    simulated: SimulatedEeg,
    seed: int,
    subject: str,
    timeline: Timeline,
    strength: ArtifactConfig,
) -> np.ndarray:
    """Return the channels (64, sample) at 250 Hz with the pulse artifact, the ECG without."""
    artifact = pulse_artifact_uv(seed, subject, timeline, simulated.beats_s, strength)
    if artifact is None:
        return simulated.signal_uv
    return simulated.signal_uv + np.insert(artifact, _ECG_INDEX, 0, axis=0)


def write_raw(
    header: Path,
    signal_uv: np.ndarray,
    timeline: Timeline,
    rng: np.random.Generator,
    *,
    sfreq_hz: int,
    artifact: GradientArtifact | None = None,
    stated_stem: str | None = None,
) -> None:
    """Write a recording as the recorder does: ``.eeg``, volume markers, sync markers.

    Parameters
    ----------
    header : Path
        The ``.vhdr`` to write.
    signal_uv : ndarray of shape (64, sample)
        At 250 Hz; interpolated by a polyphase filter, block by block.
    timeline : Timeline
    rng : numpy Generator
        Of the amplifier's noise.
    sfreq_hz : int
        Rate of the recording, a multiple of 250.
    artifact : GradientArtifact or None
        Added to all channels.
    stated_stem : str or None
        Stem that the header states, where it is stale.
    """
    onsets = np.rint(timeline.onsets_s * sfreq_hz).astype(int)
    syncs = np.arange(0.5, timeline.duration_s, 10.0) * sfreq_hz
    markers = [Marker("New Segment", "", 0)]
    markers += [Marker("SyncStatus", "Sync On", int(sample)) for sample in syncs]
    markers += [Marker("Response", "R128", int(sample)) for sample in onsets]
    blocks = _recorded_blocks(signal_uv, sfreq_hz, artifact, rng)
    layout = Layout(CHANNELS, sfreq_hz, RESOLUTION_UV, stated_stem=stated_stem)
    write_brainvision(header, layout, blocks, markers)


def write_export(
    header: Path, signal_uv: np.ndarray, timeline: Timeline, *, stated_stem: str | None = None
) -> None:
    """Write the scan's part of a recording at 250 Hz as Analyzer exports it (``.dat``)."""
    starts = np.rint(timeline.onsets_s * SOURCE_SFREQ_HZ).astype(int)
    stop = starts[-1] + round(timeline.tr_s * SOURCE_SFREQ_HZ) + EXPORT_TAIL_SAMPLES
    markers = [Marker("New Segment", "", 0)]
    markers += [Marker("Response", "R128", int(start - starts[0])) for start in starts]
    layout = Layout(
        CHANNELS, SOURCE_SFREQ_HZ, RESOLUTION_UV, binary_suffix=".dat", stated_stem=stated_stem
    )
    steps = np.rint(signal_uv[:, starts[0] : stop] / RESOLUTION_UV)
    write_brainvision(header, layout, [_int16(steps).T], markers)


def write_raw_recording(
    header: Path,
    onsets_s: np.ndarray,
    tr_s: float,
    *,
    subject: str = "01",
    seed: int = 0,
    sfreq_hz: int = 5000,
    strength: EegSignalConfig | None = None,
    artifacts: ArtifactConfig | None = None,
) -> np.ndarray:
    """Simulate EEG to accompany any BOLD run, with a volume marker (``R128``) at each onset.

    Parameters
    ----------
    header : Path
        The ``.vhdr`` to write, with ``.vmrk`` and ``.eeg`` beside it.
    onsets_s : ndarray of shape (volume,)
        Start of each volume after the first EEG sample.
    tr_s : float
        Repetition time; the EEG goes on for 3 s after the last volume.
    subject : str
        Another subject is another head and other activity.
    seed : int
        Of everything random.
    sfreq_hz : int
        Sampling rate, a multiple of 250.
    strength : EegSignalConfig or None
        Strength of signal and noise; None = the defaults.
    artifacts : ArtifactConfig or None
        Of the scanner; None = none. All else is the same with and without them.

    Returns
    -------
    ndarray of shape (volume, region, band), float32
        True power of the sources within each TR, (nA m)^2.
    """
    onsets_s = np.asarray(onsets_s, dtype=float)
    timeline = Timeline(onsets_s, tr_s, float(onsets_s[-1]) + tr_s + 3.0)
    simulated = simulate_eeg(seed, subject, timeline, strength or EegSignalConfig())
    artifacts = artifacts or ArtifactConfig()
    write_raw(
        header,
        with_pulse_artifact(simulated, seed, subject, timeline, artifacts),
        timeline,
        generator(seed, subject, "amplifier"),
        sfreq_hz=sfreq_hz,
        artifact=gradient_artifact(seed, subject, timeline, artifacts),
    )
    return simulated.activity.band_power


def _add_sensor_noise(
    scalp_uv: np.ndarray, rng: np.random.Generator, strength: EegSignalConfig
) -> None:
    """Add 1/f noise and the 50 Hz line to (channel, sample) at 250 Hz."""
    noise = spectral_noise(rng, scalp_uv.shape, SOURCE_SFREQ_HZ, _pink_spectrum)
    noise *= strength.sensor_noise_uv
    scalp_uv += noise
    times_s = np.arange(scalp_uv.shape[1]) / SOURCE_SFREQ_HZ
    line = np.sqrt(2) * np.sin(2 * np.pi * 50 * times_s + rng.uniform(0, 2 * np.pi))
    gains = strength.line_noise_uv * rng.uniform(0.5, 1.5, size=len(scalp_uv))
    for channel, gain in zip(scalp_uv, gains, strict=True):
        channel += (gain * line).astype(np.float32)


def _pink_spectrum(frequency_hz: np.ndarray) -> np.ndarray:
    """1/f power, level below 0.5 Hz, nothing above 90 Hz."""
    amplitude = 1 / np.sqrt(np.maximum(frequency_hz, 0.5))
    return amplitude * np.exp(-((frequency_hz / 75.0) ** 12))


def _recorded_blocks(
    signal_uv: np.ndarray,
    sfreq_hz: int,
    artifact: GradientArtifact | None,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Interpolated, noisy, quantized blocks, (sample, channel) int16."""
    steps = np.ascontiguousarray(signal_uv.T / np.float32(RESOLUTION_UV))
    factor = sfreq_hz // SOURCE_SFREQ_HZ
    start = 0
    for block in interpolated_blocks(steps, factor, round(_BLOCK_S * SOURCE_SFREQ_HZ)):
        if artifact is not None:
            block += artifact.block_uv(start, len(block), sfreq_hz) / np.float32(RESOLUTION_UV)
        start += len(block)
        block += rng.integers(
            -_AMPLIFIER_STEPS, _AMPLIFIER_STEPS + 1, size=block.shape, dtype=np.int8
        )
        yield _int16(np.rint(block, out=block))


def _int16(steps: np.ndarray) -> np.ndarray:
    return np.clip(steps, -32768, 32767).astype(np.int16)
