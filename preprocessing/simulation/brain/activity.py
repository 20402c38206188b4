"""Activity of the brain regions: band-limited waves whose power rises and falls slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ
from preprocessing.simulation.brain.regions import BANDS, NETWORKS, REGIONS
from preprocessing.simulation.noise import smooth_noise, spectral_noise

POWER_SFREQ_HZ = 10
WARM_UP_S = 40.0  # activity before the recording that still shapes its first volumes

# Log amplitude of a region and band: shares of variance, and its standard deviation.
_NETWORK, _REGION, _GLOBAL = 0.75, 0.17, 0.08
_LOG_AMPLITUDE_SD = 0.50
_FAST_S, _SLOW_S = 2.0, 5.0
_STRENGTH_JITTER = 0.2
_HRF_DELAY_JITTER_S = 0.3

# Vigilance: smoothness, and change of log amplitude for one unit more of it; signs as in
# Oken et al., Clinical Neurophysiology 2006; the numbers are ours.
_VIGILANCE_S = 25.0
_VIGILANCE_GAIN = {"delta": -0.5, "theta": -0.7, "alpha": 1.0, "beta": 0.4}


@dataclass(frozen=True)
class Timeline:
    """When things happen in one recording; time 0 is its first EEG sample.

    Attributes
    ----------
    onsets_s : ndarray of shape (volume,)
        Start of each volume.
    tr_s : float
        Repetition time.
    duration_s : float
        Length of the EEG recording.
    """

    onsets_s: np.ndarray
    tr_s: float
    duration_s: float

    @property
    def n_samples(self) -> int:
        """Samples of the recording at the sources' rate."""
        return round(self.duration_s * SOURCE_SFREQ_HZ)


@dataclass(frozen=True)
class Activity:
    """What the regions did.

    Attributes
    ----------
    moment_nam : ndarray of shape (region, sample), float32
        Dipole moments at 250 Hz in nA m, all bands together.
    band_power : ndarray of shape (volume, region, band), float32
        Mean power within each TR, (nA m)^2.
    hrf_power : ndarray of shape (volume, region, band), float32
        Band power convolved with the HRF, at the middle of each volume, z-scored over volumes.
    """

    moment_nam: np.ndarray
    band_power: np.ndarray
    hrf_power: np.ndarray


def simulate_activity(
    rng: np.random.Generator,
    timeline: Timeline,
    source_nam: float,
    *,
    extra_delay_s: float = 0.0,
    vigilance: np.ndarray | None = None,
) -> Activity:
    """Draw the activity of all regions.

    A wave is Gaussian noise limited to its band (alpha: a peak at the subject's own frequency)
    times a log-normal amplitude that regions of a network share in part. Its realized power,
    convolved with nilearn's canonical double-gamma HRF (`spm_hrf`), drives BOLD.

    Parameters
    ----------
    rng : numpy Generator
    timeline : Timeline
    source_nam : float
        R.m.s. moment of an occipital alpha source.
    extra_delay_s : float
        Of the subject's HRF.
    vigilance : ndarray of shape (sample,) or None
        Of `vigilance_course`.
    """
    n_regions = len(REGIONS)
    warm_up = round(WARM_UP_S * SOURCE_SFREQ_HZ)
    n_samples = warm_up + timeline.n_samples
    alpha_peak_hz = rng.normal(10.0, 0.5)
    delay_s = rng.normal(0.0, _HRF_DELAY_JITTER_S) + extra_delay_s
    moment = np.zeros((n_regions, timeline.n_samples), dtype=np.float32)
    power, hrf_power = [], []
    for index, band in enumerate(BANDS):
        strength = source_nam * np.array([region.network.moment[index] for region in REGIONS])
        strength *= rng.lognormal(0.0, _STRENGTH_JITTER, size=n_regions)
        wave = spectral_noise(
            rng, (n_regions, n_samples), SOURCE_SFREQ_HZ, _spectrum(band, alpha_peak_hz)
        )
        wave *= _amplitude(rng, n_samples) * strength[:, None].astype(np.float32)
        if vigilance is not None:
            wave *= np.exp(_VIGILANCE_GAIN[band] * _at_source_rate(vigilance, n_samples))
        moment += wave[:, warm_up:]
        wave **= 2
        power.append(_mean_per_volume(wave[:, warm_up:], timeline))
        hrf_power.append(hemodynamic(_at_power_rate(wave), timeline, delay_s))
    return Activity(moment, np.stack(power, axis=-1), np.stack(hrf_power, axis=-1))


def hidden_signal(rng: np.random.Generator, timeline: Timeline) -> np.ndarray:
    """Return BOLD dynamics of the same kind that no EEG shows, (volume, region), z-scored."""
    n_samples = round((WARM_UP_S + timeline.duration_s) * POWER_SFREQ_HZ)
    power = np.exp(2 * _LOG_AMPLITUDE_SD * _log_amplitude(rng, n_samples))
    return hemodynamic(power, timeline, rng.normal(0.0, _HRF_DELAY_JITTER_S))


def vigilance_course(
    rng: np.random.Generator, timeline: Timeline, strength: float
) -> np.ndarray | None:
    """Draw slow changes of vigilance at `POWER_SFREQ_HZ`, warm-up included; None at strength 0."""
    if not strength:
        return None
    n_samples = round((WARM_UP_S + timeline.duration_s) * POWER_SFREQ_HZ) + 2
    return strength * smooth_noise(rng, (n_samples,), POWER_SFREQ_HZ, _VIGILANCE_S)


def _at_source_rate(course: np.ndarray, n_samples: int) -> np.ndarray:
    times = np.arange(n_samples) * (POWER_SFREQ_HZ / SOURCE_SFREQ_HZ)
    return np.interp(times, np.arange(len(course)), course).astype(np.float32)


def _spectrum(band: str, alpha_peak_hz: float):
    low_hz, high_hz = BANDS_HZ[band]
    if band == "alpha":
        return lambda f: np.exp(-0.5 * ((f - alpha_peak_hz) / 1.0) ** 2)
    middle_hz, half_width_hz = (low_hz + high_hz) / 2, (high_hz - low_hz) / 2
    return lambda f: np.exp(-0.5 * ((f - middle_hz) / (0.8 * half_width_hz)) ** 8)


def _amplitude(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Slow amplitude of each region at the sources' rate, mean square 1."""
    ratio = SOURCE_SFREQ_HZ // POWER_SFREQ_HZ
    n_slow = n_samples // ratio + 2
    logs = _LOG_AMPLITUDE_SD * _log_amplitude(rng, n_slow) - _LOG_AMPLITUDE_SD**2
    slow = np.exp(logs).astype(np.float32)
    times = np.arange(n_samples) / ratio
    return np.stack([np.interp(times, np.arange(n_slow), row) for row in slow]).astype(np.float32)


def _log_amplitude(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Unit-variance processes of all regions at the power rate, correlated within networks."""

    def process(count: int) -> np.ndarray:
        fast = smooth_noise(rng, (count, n_samples), POWER_SFREQ_HZ, _FAST_S)
        slow = smooth_noise(rng, (count, n_samples), POWER_SFREQ_HZ, _SLOW_S)
        return np.sqrt(0.5) * (fast + slow)

    networks, regions, everywhere = process(len(NETWORKS)), process(len(REGIONS)), process(1)
    membership = [NETWORKS.index(region.network) for region in REGIONS]
    return (
        np.sqrt(_NETWORK) * networks[membership]
        + np.sqrt(_REGION) * regions
        + np.sqrt(_GLOBAL) * everywhere
    )


def _mean_per_volume(power: np.ndarray, timeline: Timeline) -> np.ndarray:
    """Mean over each TR, (region, sample) -> (volume, region)."""
    starts = np.rint(timeline.onsets_s * SOURCE_SFREQ_HZ).astype(int)
    length = round(timeline.tr_s * SOURCE_SFREQ_HZ)
    return np.stack([power[:, start : start + length].mean(axis=1) for start in starts])


def _at_power_rate(power: np.ndarray) -> np.ndarray:
    ratio = SOURCE_SFREQ_HZ // POWER_SFREQ_HZ
    whole = power.shape[1] // ratio * ratio
    return power[:, :whole].reshape(len(power), -1, ratio).mean(axis=-1)


def hemodynamic(power: np.ndarray, timeline: Timeline, delay_s: float) -> np.ndarray:
    """Convolve power with the HRF and sample it at the middle of each volume.

    Parameters
    ----------
    power : ndarray of shape (region, sample)
        At `POWER_SFREQ_HZ`, from `WARM_UP_S` before the EEG on.
    timeline : Timeline
    delay_s : float
        Beyond that of nilearn's `spm_hrf`.

    Returns
    -------
    ndarray of shape (volume, region), float32
        Z-scored.
    """
    from nilearn.glm.first_level import spm_hrf
    from scipy.signal import fftconvolve

    hrf = spm_hrf(1 / POWER_SFREQ_HZ, oversampling=1)
    response = fftconvolve(power.astype(np.float64), hrf[None], axes=1)[:, : power.shape[1]]
    times_s = (np.arange(response.shape[1]) + 0.5) / POWER_SFREQ_HZ - WARM_UP_S
    middle_s = timeline.onsets_s + timeline.tr_s / 2 - delay_s
    sampled = np.stack([np.interp(middle_s, times_s, row) for row in response], axis=1)
    return ((sampled - sampled.mean(axis=0)) / sampled.std(axis=0)).astype(np.float32)
