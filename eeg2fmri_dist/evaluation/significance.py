"""How far chance explains a score: intervals over subjects, p-values from circular shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from eeg2fmri_dist.scores.catalog import Scale
from eeg2fmri_dist.scores.temporal import unit_series

MIN_SUBJECTS = 3
SMALLEST_BOOTSTRAP = 8
_DRAWS = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean over subjects and its confidence interval.

    Attributes
    ----------
    mean : float
        Mean over subjects.
    low, high : float
        Ends of the interval; NaN below three subjects, for which none is given.
    n : int
        Number of subjects.
    method : str
        ``bootstrap``, ``Student's t``, ``Student's t, log scale`` or ``none``.
    """

    mean: float
    low: float
    high: float
    n: int
    method: str

    @property
    def known(self) -> bool:
        """Whether there were subjects enough for an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def subject_interval(
    values: Sequence[float],
    *,
    scale: Scale = "linear",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a mean over subjects.

    From 8 subjects on: percentile bootstrap with expanded percentiles (Hesterberg, The American
    Statistician 69(4), 2015), which corrects for the narrowness of the plain one. Below 8:
    Student's t, because resampling four values cannot cover (a 95 % percentile bootstrap of 4
    normal values covers 79 %, Student's t 94 %). On the log scale Student's t is that of the
    mean's logarithm, by the delta method: ``mean * exp(+-t * standard error / mean)``. The mean
    stays inside, the lower end cannot fall below 0, and skewed scores are covered better (4
    log-normal values of sigma 0.5: 94 %, against 92 % with one in six intervals below 0).

    Parameters
    ----------
    values : sequence of float
        One score per subject.
    scale : {"linear", "log"}
        ``log`` for scores that cannot be negative, such as ratios.
    level : float
        Confidence level.
    resamples : int
        Bootstrap resamples.
    seed : int
        Of the resampling; the same seed gives the same interval.

    Returns
    -------
    Interval
    """
    scores = np.asarray(values, dtype=np.float64)
    n = len(scores)
    mean = float(scores.mean()) if n else float("nan")
    if n < MIN_SUBJECTS or not np.isfinite(scores).all():
        return Interval(mean, float("nan"), float("nan"), n, "none")
    t_quantile = stats.t.ppf((1 + level) / 2, n - 1)
    if n < SMALLEST_BOOTSTRAP:
        half = float(t_quantile * scores.std(ddof=1) / np.sqrt(n))
        if scale == "linear":
            return Interval(mean, mean - half, mean + half, n, "Student's t")
        factor = np.exp(half / mean) if mean else 1.0
        return Interval(mean, mean / factor, mean * factor, n, "Student's t, log scale")
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * t_quantile)
    rng = np.random.default_rng(seed)
    means = scores[rng.integers(0, n, size=(resamples, n))].mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), n, "bootstrap")


@dataclass(frozen=True)
class RegionTest:
    """r of each region against chance.

    Attributes
    ----------
    r : tuple of float
        Mean over recordings.
    p : tuple of float
        One-sided, from circular shifts.
    q : tuple of float
        p after correction over regions: the smallest false discovery rate at which the region
        counts (Benjamini and Hochberg, Journal of the Royal Statistical Society B 57(1), 1995;
        valid under the positive dependence of neighboring regions).
    """

    r: tuple[float, ...]
    p: tuple[float, ...]
    q: tuple[float, ...]

    def found(self, rate: float = 0.05) -> list[int]:
        """Return the regions that stay at a false discovery rate, best r first."""
        return sorted((k for k, q in enumerate(self.q) if q <= rate), key=lambda k: -self.r[k])


def regional_shift_correlations(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Correlate each region for every circular shift of the prediction, by Fourier transform.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, region)
        Regional time courses of one recording, detrended (a trend breaks at the seam of a shift).

    Returns
    -------
    ndarray of shape (volume, region)
        Row ``s``: r when the prediction is delayed by ``s`` volumes; row 0 is the score itself.
    """
    spectrum = np.fft.rfft(unit_series(true), axis=0) * np.conj(
        np.fft.rfft(unit_series(predicted), axis=0)
    )
    return np.fft.irfft(spectrum, n=len(true), axis=0)


def shift_correlations(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the mean over regions of `regional_shift_correlations`, (volume,)."""
    return regional_shift_correlations(predicted, true).mean(axis=1)


def compare_regions(
    recordings: Sequence[np.ndarray], *, draws: int = 10_000, seed: int = 0
) -> RegionTest:
    """Test each region against circular shifts within recordings, as `circular_shift_p` does.

    Parameters
    ----------
    recordings : sequence of ndarray of shape (volume, region)
        `regional_shift_correlations` of each recording.
    draws : int
        Random combinations of shifts where there are several recordings; the same ones for all
        regions.
    seed : int
        Of the draws.
    """
    observed = np.mean([curves[0] for curves in recordings], axis=0)
    if len(recordings) == 1:
        null = recordings[0][1:]
    else:
        rng = np.random.default_rng(seed)
        null = np.mean(
            [curves[rng.integers(1, len(curves), size=draws)] for curves in recordings], axis=0
        )
    # Shifts that tie with the observed score up to rounding count against it.
    p = (1 + (null >= observed - 1e-12).sum(axis=0)) / (1 + len(null))
    q = stats.false_discovery_control(p)
    return RegionTest(tuple(observed.tolist()), tuple(p.tolist()), tuple(q.tolist()))


def smallest_sign_flip_p(n_subjects: int, draws: int = _DRAWS) -> float:
    """Return the p-value that `sign_flip_test` cannot go below with so many subjects."""
    return 1 / min(2**n_subjects, draws)


def sign_flip_test(differences: np.ndarray, *, draws: int = _DRAWS, seed: int = 0) -> RegionTest:
    """Test over subjects, for each region, whether a difference is above 0 in the population.

    Where nothing is different, a subject's difference is as likely to have the other sign: p is
    the share of all ways to flip signs, the observed one among them, whose mean is as large
    (Nichols and Holmes, Human Brain Mapping 15(1), 2002). A subject's regions are flipped
    together. p cannot fall below `smallest_sign_flip_p`: 1/16 for 4 subjects.

    Parameters
    ----------
    differences : ndarray of shape (subject, region)
        Such as r with true EEG minus r with circularly shifted EEG.
    draws : int
        Random flips, where there are more ways than so many; else all ways are tried.
    seed : int
        Of the draws.

    Returns
    -------
    RegionTest
        With the mean difference as ``r``.
    """
    n = len(differences)
    if 2**n <= draws:
        ways = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        ways = np.random.default_rng(seed).integers(0, 2, size=(draws, n))
        ways[0] = 0  # as observed
    means = (1 - 2 * ways) @ differences / n
    observed = differences.mean(axis=0)
    p = (means >= observed - 1e-12).mean(axis=0)
    q = stats.false_discovery_control(p)
    return RegionTest(tuple(observed.tolist()), tuple(p.tolist()), tuple(q.tolist()))


def circular_shift_p(
    recordings: Sequence[np.ndarray], *, min_shift: int = 1, draws: int = 10_000, seed: int = 0
) -> float:
    """One-sided p-value of the mean r over recordings against circular shifts within each.

    A circular shift keeps the autocorrelation of the prediction and the correlation between
    regions, and breaks only the match in time. One recording: all shifts are tried. Several: each
    is shifted independently, at random. ``p = (1 + #{shifted r >= r}) / (1 + n)``.

    `min_shift` is 1 for a reason: leaving out shifts near 0, where a good prediction still fits,
    looks safer but is not. Under the null hypothesis shift 0 is then the only one without its
    neighbors, and p < 0.05 comes up in 8 % of null recordings of 100 volumes (`min_shift` 10),
    against 5 % with all shifts.

    Parameters
    ----------
    recordings : sequence of ndarray of shape (volume,)
        `shift_correlations` of each recording.
    min_shift : int
        Smallest shift, in volumes, in either direction.
    draws : int
        Random combinations of shifts where there are several recordings.
    seed : int
        Of the draws.

    Returns
    -------
    float
        In (0, 1]. 1 for a prediction that never changes.
    """
    observed = float(np.mean([curve[0] for curve in recordings]))
    allowed = [curve[min_shift : len(curve) - min_shift + 1] for curve in recordings]
    if len(allowed) == 1:
        null = allowed[0]
    else:
        rng = np.random.default_rng(seed)
        null = np.mean([rng.choice(curve, size=draws) for curve in allowed], axis=0)
    # Shifts that tie with the observed score up to rounding count against it.
    as_large = int((null >= observed - 1e-12).sum())
    return (1 + as_large) / (1 + len(null))
