"""How band power drives BOLD where people differ and the drive is not linear."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from eeg2fmri_dist.config.simulate import RealismConfig
from preprocessing.simulation.brain.regions import BANDS, REGIONS
from preprocessing.simulation.seeding import generator

BAND_PAIRS = tuple(combinations(range(len(BANDS)), 2))


def own_population(seed: int, subject: str, population: np.ndarray, share: float) -> np.ndarray:
    """Mix the population's weights with weights that only this subject has.

    Parameters
    ----------
    seed : int
    subject : str
    population : ndarray of shape (region, band)
    share : float
        Correlation of the mixture with the subject's own part; 0 = the population's weights.

    Returns
    -------
    ndarray of shape (region, band)
        Of the same r.m.s. size, in expectation.
    """
    if not share:
        return population
    rng = generator(seed, subject, "own weights")
    own = np.sqrt(np.mean(population**2)) * rng.standard_normal(population.shape)
    return np.sqrt(1 - share**2) * population + share * own


def nonlinear_drive(
    seed: int, weights: np.ndarray, hrf_power: np.ndarray, realism: RealismConfig
) -> np.ndarray | None:
    """Return what drives BOLD beside the linear part, relative to all of the drive.

    Squares of band power are weighted as band power is; products of two bands have weights that
    all subjects share. Both are taken from HRF-convolved power, and made free of what is linear in
    it within the recording.

    Parameters
    ----------
    seed : int
    weights : ndarray of shape (region, band)
        Of the population.
    hrf_power : ndarray of shape (volume, region, band)
        Z-scored.
    realism : RealismConfig

    Returns
    -------
    ndarray of shape (volume, region) or None
        Of variance ``nonlinear**2 + cross_frequency**2``, but for chance correlations of the
        two parts; None where both are 0.
    """
    if not (realism.nonlinear or realism.cross_frequency):
        return None
    squares = np.einsum("vrb,rb->vr", hrf_power**2, weights)
    pairs = np.stack([hrf_power[..., a] * hrf_power[..., b] for a, b in BAND_PAIRS], axis=-1)
    shared = generator(seed, "band pairs").standard_normal((len(REGIONS), len(BAND_PAIRS)))
    products = np.einsum("vrp,rp->vr", pairs, shared)
    drive = realism.nonlinear * _beside_linear(squares, hrf_power)
    drive += realism.cross_frequency * _beside_linear(products, hrf_power)
    return drive


def linear_share(realism: RealismConfig) -> float:
    """Return the share (as a correlation) of the drive that is linear in band power."""
    return float(np.sqrt(max(0.0, 1 - realism.nonlinear**2 - realism.cross_frequency**2)))


def _beside_linear(courses: np.ndarray, hrf_power: np.ndarray) -> np.ndarray:
    """What is not linear in the region's own band powers, z-scored, (volume, region).

    Band power is skewed, so that its square is for the most part linear in it.
    """
    rest = np.empty_like(courses)
    for region, course in enumerate(courses.T):
        centered, power = course - course.mean(), hrf_power[:, region].astype(float)
        rest[:, region] = centered - power @ np.linalg.lstsq(power, centered, rcond=None)[0]
    return rest / rest.std(axis=0)
