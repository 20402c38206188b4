"""Scores of a predicted BOLD recording against the true one.

Volumes are (volume, x, y, z) float32 in the units of the store, predicted and true alike. PSNR
and SSIM depend on scale and data range, which the literature rarely states; two conventions are
spelt out here:

paper
    Bruno et al., JHJA 3(1), 2025. Volumes are z-scored with one mean and deviation, those of all
    training volumes. The data range is max - min of the z-scored true recording (the only reading
    under which the published MSE 0.209 and 25.92 dB agree: a range of 9.04). PSNR comes from the
    MSE over the whole recording.
peer
    E2fNet, NT-ViT and their followers. Each volume, predicted or true, is scaled to [0, 1] by its
    own minimum and maximum, as those models' targets are: scanner gain is forgiven. Data range 1.
    PSNR per volume, then averaged.

`masked` means: scaled in the same way over the whole grid, then averaged over brain voxels only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.scores.networks import (
    Regions,
    correlation_matrix,
    matrix_distance,
    matrix_similarity,
    regional_correlation,
    regional_series,
)
from eeg2fmri_dist.scores.ssim import interior_mean, ssim_map
from eeg2fmri_dist.scores.temporal import (
    DETREND_ORDER,
    detrend,
    explained_variance,
    spectral_coherence,
    temporal_correlation,
    temporal_std_ratio,
    without_global,
)

_VOXELS_PER_BLOCK = 4096

VolumePairs = Iterator[tuple[int, np.ndarray, np.ndarray]]


def mse(predicted: np.ndarray, true: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared error over all volumes and voxels, or over those of a mask (x, y, z)."""
    squared = np.square(np.subtract(predicted, true, dtype=np.float64))
    return float(squared.mean() if mask is None else squared[:, mask].mean())


def psnr(
    predicted: np.ndarray, true: np.ndarray, data_range: float, mask: np.ndarray | None = None
) -> float:
    """Peak signal-to-noise ratio, ``10 log10(data_range^2 / MSE)``, of all volumes together.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        Same unit.
    data_range : float
        Largest minus smallest value that the data can take, in that unit.
    mask : ndarray of bool, shape (x, y, z), optional
        Voxels that count; all without it.

    Returns
    -------
    float
        In dB; infinite where prediction and truth are identical.
    """
    return float(_psnr_db(np.array(mse(predicted, true, mask)), data_range))


def voxelwise(
    predicted: np.ndarray, true: np.ndarray, mask: np.ndarray, detrend_order: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pearson r and explained variance over time of each voxel in a mask, by blocks of voxels.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        In any unit.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to score.
    detrend_order : int
        Degree of the polynomial removed from both.

    Returns
    -------
    tuple of ndarray of shape (voxel,)
        In the order of ``numpy.nonzero(mask)``; see `temporal_correlation`, `explained_variance`.
    """
    voxels = np.nonzero(mask)
    r, explained = np.empty((2, len(voxels[0])))
    for start in range(0, len(r), _VOXELS_PER_BLOCK):
        block = slice(start, start + _VOXELS_PER_BLOCK)
        x, y, z = (axis[block] for axis in voxels)
        series = (detrend(volumes[:, x, y, z], detrend_order) for volumes in (predicted, true))
        of_predicted, of_true = series
        r[block] = temporal_correlation(of_predicted, of_true)
        explained[block] = explained_variance(of_predicted, of_true)
    return r, explained


@dataclass(frozen=True)
class RecordingScores:
    """What one recording scores.

    Attributes
    ----------
    means : dict of str to float
        Over all volumes, by their stable names.
    volumes : dict of str to ndarray of shape (volume,)
        MSE, PSNR and SSIM of `paper_convention` for each volume alone, on the data range of the
        recording; NaN for the SSIM of volumes that were passed over.
    """

    means: dict[str, float]
    volumes: dict[str, np.ndarray]


def paper_convention(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    *,
    bold_mean: float,
    bold_std: float,
    ssim_every: int = 1,
    chunk: int = 8,
) -> RecordingScores:
    """MSE, PSNR and SSIM of z-scored volumes (see the top of this file).

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        Units of the store.
    mask : ndarray of bool, shape (x, y, z)
        Brain voxels.
    bold_mean, bold_std : float
        Of all voxels of all training volumes.
    ssim_every : int
        SSIM of each n-th volume only (1 = all); MSE and PSNR always see all.
    chunk : int
        Volumes in memory at a time; the result does not depend on it.

    Returns
    -------
    RecordingScores
        ``mse_zscore``, ``rmse_zscore``, ``psnr_zscore_db``, ``ssim2d_zscore``, ``ssim3d_zscore``,
        each also ``_masked``, and ``data_range_zscore`` (z units).
    """
    data_range = float(true.max() - true.min()) / bold_std
    pairs = _scaled_pairs(
        predicted, true, lambda volumes: (volumes - bold_mean) / bold_std, chunk=chunk
    )
    volumes = _score_volumes(pairs, data_range, mask, ssim_every)
    means = {"data_range_zscore": data_range}
    for masked in ("", "_masked"):
        error = volumes["mse" + masked].mean()
        means["mse_zscore" + masked] = float(error)
        means["rmse_zscore" + masked] = float(np.sqrt(error))
        means[f"psnr_zscore{masked}_db"] = float(_psnr_db(error, data_range))
    means |= _mean_ssim(volumes, "zscore")
    return RecordingScores(means, _name_volumes(volumes, data_range, ssim_every))


def peer_convention(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    *,
    ssim_every: int = 1,
    chunk: int = 8,
) -> dict[str, float]:
    """MSE, PSNR and SSIM of volumes that are each scaled to [0, 1] (see the top of this file).

    Parameters are those of `paper_convention`; a volume of one value becomes zeros.

    Returns
    -------
    dict of str to float
        ``mse_minmax``, ``psnr_minmax_db``, ``ssim2d_minmax``, ``ssim3d_minmax``, each also
        ``_masked``.
    """
    pairs = _scaled_pairs(predicted, true, _own_min_max, chunk=chunk)
    volumes = _score_volumes(pairs, 1.0, mask, ssim_every)
    scores = {}
    for masked in ("", "_masked"):
        error = volumes["mse" + masked]
        scores["mse_minmax" + masked] = float(error.mean())
        scores[f"psnr_minmax{masked}_db"] = float(_psnr_db(error, 1.0).mean())
    return scores | _mean_ssim(volumes, "minmax")


def specific_correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean r over regions of (volume, region) series, each without its global signal."""
    series = (without_global(courses) for courses in (predicted, true))
    return float(temporal_correlation(*series).mean())


def temporal_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    regions: Regions,
) -> dict[str, float]:
    """Scores of change over time.

    ``r_voxel``, ``r_region``, ``r_region_gsr``, ``ev_voxel``, ``ev_region``, ``std_ratio``,
    ``fc_similarity``, ``fc_distance``, ``coherence``.

    Both recordings are detrended by a polynomial of degree `DETREND_ORDER`. ``r_voxel`` is
    the mean over mask voxels, ``r_region`` the mean over regions of the r of regional means,
    ``r_region_gsr`` that of regional means without the global signal (`temporal.without_global`),
    ``ev_voxel`` and ``ev_region`` likewise of `temporal.explained_variance`. The others are of
    regional means too: of functional connectivity (correlation matrices) the r of upper triangles
    and `networks.matrix_distance`; `temporal.spectral_coherence`.
    """
    predicted_regions, true_regions = (
        regional_series([volumes], regions) for volumes in (predicted, true)
    )
    matrices = correlation_matrix(predicted_regions), correlation_matrix(true_regions)
    r_voxel, ev_voxel = voxelwise(predicted, true, mask, DETREND_ORDER)
    return {
        "r_voxel": float(r_voxel.mean()),
        "r_region": regional_correlation(predicted_regions, true_regions),
        "r_region_gsr": specific_correlation(predicted_regions, true_regions),
        "ev_voxel": float(ev_voxel.mean()),
        "ev_region": float(explained_variance(predicted_regions, true_regions).mean()),
        "std_ratio": temporal_std_ratio(predicted_regions, true_regions),
        "fc_similarity": matrix_similarity(*matrices),
        "fc_distance": matrix_distance(*matrices),
        "coherence": spectral_coherence(predicted_regions, true_regions),
    }


def score_recording(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    regions: Regions,
    *,
    bold_mean: float,
    bold_std: float,
    ssim_every: int = 1,
    chunk: int = 8,
) -> RecordingScores:
    """Return all scores of one recording.

    Those of `temporal_scores`, `paper_convention` and `peer_convention`, and ``ssim_every``.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        Units of the store.
    mask : ndarray of bool, shape (x, y, z)
        Brain voxels.
    regions : Regions
        Regions on the same grid.
    bold_mean, bold_std : float
        Of all voxels of all training volumes.
    ssim_every : int
        SSIM of each n-th volume only; stated in the result as ``ssim_every``.
    chunk : int
        Volumes in memory at a time for MSE, PSNR and SSIM.

    Raises
    ------
    DataError
        If shapes differ, the mask is empty or a value is not finite.
    """
    mask = mask.astype(bool)
    _check(predicted, true, mask)
    paper = paper_convention(
        predicted,
        true,
        mask,
        bold_mean=bold_mean,
        bold_std=bold_std,
        ssim_every=ssim_every,
        chunk=chunk,
    )
    means = {
        **temporal_scores(predicted, true, mask, regions),
        **paper.means,
        **peer_convention(predicted, true, mask, ssim_every=ssim_every, chunk=chunk),
        "ssim_every": float(ssim_every),
    }
    return RecordingScores(means, paper.volumes)


def _name_volumes(
    volumes: dict[str, np.ndarray], data_range: float, ssim_every: int
) -> dict[str, np.ndarray]:
    """Name scores of volumes as their means are named; NaN where a volume was passed over."""
    n_volumes = len(volumes["mse"])
    named = {}
    for masked in ("", "_masked"):
        error = volumes["mse" + masked]
        named["mse_zscore" + masked] = error
        named[f"psnr_zscore{masked}_db"] = _psnr_db(error, data_range)
        for dimensions in (2, 3):
            whole = np.full(n_volumes, np.nan)
            whole[::ssim_every] = volumes[f"ssim{dimensions}d{masked}"]
            named[f"ssim{dimensions}d_zscore{masked}"] = whole
    return named


def _check(predicted: np.ndarray, true: np.ndarray, mask: np.ndarray) -> None:
    if predicted.shape != true.shape or true.ndim != 4 or true.shape[1:] != mask.shape:
        raise DataError(
            f"shapes differ: predicted {predicted.shape}, true {true.shape}, mask {mask.shape}",
            remedy="score a recording against the same volumes on the same grid",
        )
    if not mask.any():
        raise DataError("the brain mask is empty")
    if true.min() == true.max():
        raise DataError("every true voxel holds the same value: nothing can be scored")
    for name, volumes in (("predicted", predicted), ("true", true)):
        for index, volume in enumerate(volumes):
            if not np.isfinite(volume).all():
                raise DataError(
                    "holds a value that is not finite",
                    where=f"{name} volume {index}",
                    remedy="the model may have diverged: look at its training curves",
                )


def _scaled_pairs(
    predicted: np.ndarray,
    true: np.ndarray,
    scale: Callable[[np.ndarray], np.ndarray],
    chunk: int,
) -> VolumePairs:
    """First index, predicted and true volumes, `chunk` at a time, scaled."""
    for start in range(0, len(true), chunk):
        block = slice(start, start + chunk)
        yield (
            start,
            scale(predicted[block].astype(np.float64)),
            scale(true[block].astype(np.float64)),
        )


def _own_min_max(volumes: np.ndarray) -> np.ndarray:
    low = volumes.min(axis=(1, 2, 3), keepdims=True)
    span = volumes.max(axis=(1, 2, 3), keepdims=True) - low
    return np.divide(volumes - low, span, out=np.zeros_like(volumes), where=span > 0)


def _score_volumes(
    pairs: VolumePairs, data_range: float, mask: np.ndarray, ssim_every: int
) -> dict[str, np.ndarray]:
    """Scores of each volume, in order: MSE of all, SSIM of each n-th."""
    scores: dict[str, list[np.ndarray]] = {}
    for start, predicted, true in pairs:
        squared = (predicted - true) ** 2
        chosen = np.arange(start, start + len(true)) % ssim_every == 0
        block = {"mse": squared.mean(axis=(1, 2, 3)), "mse_masked": squared[:, mask].mean(axis=1)}
        for dimensions in (2, 3):
            similarity = ssim_map(predicted[chosen], true[chosen], data_range, dimensions)
            block[f"ssim{dimensions}d"] = interior_mean(similarity, dimensions)
            block[f"ssim{dimensions}d_masked"] = similarity[:, mask].mean(axis=1)
        for name, values in block.items():
            scores.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in scores.items()}


def _mean_ssim(volumes: dict[str, np.ndarray], convention: str) -> dict[str, float]:
    return {
        f"ssim{dimensions}d_{convention}{masked}": float(
            volumes[f"ssim{dimensions}d{masked}"].mean()
        )
        for dimensions in (2, 3)
        for masked in ("", "_masked")
    }


def _psnr_db(error: np.ndarray, data_range: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / error)
