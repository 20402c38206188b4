"""What the scanner records: regional BOLD driven by band power, and everything that disturbs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.simulate import BoldSignalConfig
from preprocessing.simulation.brain.activity import Timeline
from preprocessing.simulation.brain.anatomy import BRAIN_INTENSITY, Anatomy
from preprocessing.simulation.brain.regions import BANDS, REGIONS
from preprocessing.simulation.scanner.head_motion import moved
from preprocessing.simulation.scanner.heart import cardiac_phase, respiratory_phase

STEADY_VOLUME = 5  # saturation is over: below 0.2 % with the default strength
_REGION_JITTER = 0.25


@dataclass(frozen=True)
class RegionalBold:
    """Regional BOLD before any noise of the scanner.

    Attributes
    ----------
    weights : ndarray of shape (region, band), float32
        Percent BOLD per s.d. of HRF-convolved band power:
        ``driven = sum(weights * hrf_power) + nonlinear``.
    driven : ndarray of shape (volume, region), float32
        Percent signal change that the EEG shows, `nonlinear` included.
    hidden : ndarray of shape (volume, region), float32
        Percent signal change of neural activity that the EEG does not show.
    nonlinear : ndarray of shape (volume, region), float32
        Part of `driven` that is not linear in band power.
    """

    weights: np.ndarray
    driven: np.ndarray
    hidden: np.ndarray
    nonlinear: np.ndarray


def population_weights(rng: np.random.Generator) -> np.ndarray:
    """Return the coupling that all subjects share, (region, band); alpha is negative."""
    weights = np.array([region.network.coupling for region in REGIONS])
    return weights * rng.lognormal(0.0, _REGION_JITTER, size=weights.shape)


def regional_bold(
    rng: np.random.Generator,
    population: np.ndarray,
    hrf_power: np.ndarray,
    hidden: np.ndarray,
    *,
    coupling: float,
    between_subjects: float,
    neural_percent: float,
    beside: np.ndarray | None = None,
    linear_share: float = 1.0,
) -> RegionalBold:
    """Combine what the EEG shows and what it does not.

    Parameters
    ----------
    rng : numpy Generator
        Of the subject's own deviation from the population.
    population : ndarray of shape (region, band)
    hrf_power : ndarray of shape (volume, region, band)
        HRF-convolved band power, z-scored.
    hidden : ndarray of shape (volume, region)
        Other neural activity, z-scored.
    coupling : float
        Correlation of the neural signal with its part that the EEG shows.
    between_subjects : float
        Relative s.d. of this subject's weights around the population's.
    neural_percent : float
        S.d. of each region's neural signal.
    beside : ndarray of shape (volume, region) or None
        What the EEG shows beside the linear part, relative to all that it shows.
    linear_share : float
        S.d. of the linear part, relative to all that the EEG shows.
    """
    shape = (len(REGIONS), len(BANDS))
    weights = population * (1 + between_subjects * rng.standard_normal(shape))
    spread = np.einsum("vrb,rb->vr", hrf_power, weights).std(axis=0)
    size = np.full(len(REGIONS), coupling * neural_percent)
    nonlinear = np.zeros_like(hidden)
    if beside is not None:
        linear = np.einsum("vrb,rb->vr", hrf_power, weights) / spread
        size /= (linear_share * linear + beside).std(axis=0)
        nonlinear = size * beside
    weights *= (size * linear_share / spread)[:, None]
    driven = np.einsum("vrb,rb->vr", hrf_power, weights) + nonlinear
    return RegionalBold(
        weights=weights.astype(np.float32),
        driven=driven.astype(np.float32),
        hidden=(np.sqrt(1 - coupling**2) * neural_percent * hidden).astype(np.float32),
        nonlinear=nonlinear.astype(np.float32),
    )


def simulate_run(
    rng: np.random.Generator,
    anatomy: Anatomy,
    regional: RegionalBold,
    beats_s: np.ndarray,
    timeline: Timeline,
    strength: BoldSignalConfig,
    *,
    shared_percent: np.ndarray | None = None,
    motion: np.ndarray | None = None,
) -> np.ndarray:
    """Return a BOLD run, (x, y, z, volume) int16.

    Percent signal change in proportion to a voxel's gray matter, slow drift, cardiac and
    respiratory fluctuation at each slice's own time, T1 saturation of the first volumes, thermal
    noise, magnitude, rounding. Volumes show neural signal as of their middle. The head lies still
    where no `motion` (volume, 6) of `head_motion` is given; `shared_percent` (volume,) changes the
    whole brain.
    """
    shape, n_volumes = anatomy.epi.shape, len(timeline.onsets_s)
    neural = np.zeros((n_volumes, len(REGIONS) + 1), dtype=np.float32)
    neural[:, 1:] = (regional.driven + regional.hidden) / 100
    drift_maps = _drift_maps(rng, shape, strength.drift_percent / 100)
    drift_courses = _drift_courses(n_volumes)
    pulse, breath = _physiology(rng, shape[2], beats_s, timeline)
    pulse_map = (2 * strength.physiological_percent / 100) * anatomy.csf
    breath_map = (strength.physiological_percent / 100) * anatomy.brain.astype(np.float32)
    thermal = np.float32(strength.thermal_percent / 100 * BRAIN_INTENSITY)
    run = np.empty((*shape, n_volumes), dtype=np.int16, order="F")
    for volume in range(n_volumes):
        change = neural[volume][anatomy.labels] * anatomy.grey_matter
        change += np.tensordot(drift_courses[volume], drift_maps, axes=1)
        change += pulse[volume] * pulse_map + breath[volume] * breath_map
        change += np.float32(strength.saturation_percent / 100 * np.exp(-volume))
        if shared_percent is not None:
            change += np.float32(shared_percent[volume] / 100) * anatomy.brain
        image = anatomy.epi * (1 + change)
        if motion is not None:
            image = moved(image, anatomy.affine, motion[volume])
        image += thermal * rng.standard_normal(shape, dtype=np.float32)
        run[..., volume] = np.rint(np.abs(image))
    return run


def regional_means(run: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return percent signal change of regional means, (volume, region); NaN without voxels."""
    means = np.full((run.shape[-1], len(REGIONS)), np.nan)
    for index in range(len(REGIONS)):
        inside = labels == index + 1
        if inside.any():
            course = run[inside].mean(axis=0)
            means[:, index] = 100 * (course / course[STEADY_VOLUME:].mean() - 1)
    return means


def noise_ceiling(driven: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlate what the EEG shows with what was measured, (region,).

    Both are (volume, region), taken from volume 5 on and without their linear trend; 0 where the
    EEG shows nothing.
    """
    from scipy.signal import detrend

    first = detrend(driven[STEADY_VOLUME:].astype(float), axis=0)
    second = detrend(measured[STEADY_VOLUME:], axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide((first * second).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)


def _drift_maps(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Smooth maps of a linear and a slow periodic drift, (2, x, y, z)."""
    from scipy.ndimage import zoom

    coarse = rng.standard_normal((2, 4, 4, 4))
    maps = [
        zoom(part, np.array(shape) / 4, order=1, grid_mode=True, mode="nearest") for part in coarse
    ]
    return (strength * np.stack(maps)).astype(np.float32)


def _drift_courses(n_volumes: int) -> np.ndarray:
    """Time courses of the two drifts, (volume, 2)."""
    time = np.linspace(-1, 1, n_volumes)
    return np.stack([time, 0.5 * np.cos(np.pi * time)], axis=1).astype(np.float32)


def _physiology(
    rng: np.random.Generator, n_slices: int, beats_s: np.ndarray, timeline: Timeline
) -> tuple[np.ndarray, np.ndarray]:
    """Cardiac and respiratory courses of each slice, (volume, slice), r.m.s. 1."""
    order = np.concatenate([np.arange(0, n_slices, 2), np.arange(1, n_slices, 2)])
    slice_s = np.empty(n_slices)
    slice_s[order] = np.arange(n_slices) * timeline.tr_s / n_slices
    times_s = timeline.onsets_s[:, None] + slice_s
    pulse = np.sqrt(2) * np.cos(cardiac_phase(beats_s, times_s))
    breath = np.sqrt(2) * np.cos(respiratory_phase(rng, times_s))
    return pulse.astype(np.float32), breath.astype(np.float32)
