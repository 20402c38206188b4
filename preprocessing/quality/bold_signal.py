"""What the volumes of a run say about its quality: DVARS, global signal, tSNR map, carpet."""

from __future__ import annotations

import numpy as np

from preprocessing.template.mni import grid_affine, load_template

# Intensities of the template between CSF, gray and white matter.
_TISSUE_EDGES = (4300.0, 7000.0)
TISSUES = ("CSF", "gray matter", "white matter")
CARPET_ROWS = 480
_ROBUST_VOXELS = 6000


def grid_tissues(grid: tuple[int, int, int], mask: np.ndarray) -> np.ndarray:
    """Return the tissue of each voxel of the grid by the template's brightness.

    Returns
    -------
    ndarray of int8, shape (x, y, z)
        Index into `TISSUES`, -1 outside the mask.
    """
    from scipy.ndimage import affine_transform

    template = load_template()
    to_template = np.linalg.inv(template.affine) @ grid_affine(grid)
    t1 = affine_transform(
        np.asarray(template.dataobj, np.float32), to_template, output_shape=grid, order=1
    )
    return np.where(mask, np.digitize(t1, _TISSUE_EDGES), -1).astype(np.int8)


def global_signal_percent(series: np.ndarray) -> np.ndarray:
    """Return the mean of each volume, in percent of the mean over time.

    Parameters
    ----------
    series : ndarray of shape (volume, voxel)
    """
    course = series.mean(axis=1, dtype=np.float64)
    return 100.0 * (course / course.mean() - 1)


def std_dvars(series: np.ndarray) -> np.ndarray:
    """Return the change of each volume from the one before, 1 = what noise alone would give.

    Root mean square over voxels of the difference of successive volumes, divided by its expected
    value: robust standard deviation and lag-1 autocorrelation of each voxel (Nichols 2017,
    arXiv:1704.01469). 0 for the first volume.

    Parameters
    ----------
    series : ndarray of shape (volume, voxel)
    """
    dvars = np.zeros(len(series))
    if len(series) < 4:
        return dvars
    for volume in range(1, len(series)):
        difference = series[volume] - series[volume - 1]
        dvars[volume] = np.sqrt(np.mean(difference**2, dtype=np.float64))
    some = series[:, :: max(1, series.shape[1] // _ROBUST_VOXELS)].astype(np.float64)
    low, high = np.percentile(some, [25, 75], axis=0)
    centered = some - some.mean(axis=0)
    power = (centered**2).sum(axis=0)
    lagged = (centered[1:] * centered[:-1]).sum(axis=0)
    correlation = np.divide(lagged, power, out=np.zeros_like(power), where=power > 0)
    expected = np.mean((high - low) / 1.349 * np.sqrt(2 * (1 - correlation)))
    return dvars / expected if expected > 0 else np.zeros(len(series))


def without_trend(series: np.ndarray) -> np.ndarray:
    """Return the series (volume, voxel) without mean and linear trend."""
    time = np.linspace(-1, 1, len(series), dtype=np.float32)
    time -= time.mean()
    centered = series - series.mean(axis=0)
    slope = time @ centered / max(float(time @ time), 1e-12)
    detrended: np.ndarray = centered - np.outer(time, slope)
    return detrended


def tsnr_map(series: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return mean / standard deviation over time without linear trend, (x, y, z), 0 outside.

    Parameters
    ----------
    series : ndarray of shape (volume, voxel)
        In the order of ``numpy.nonzero(mask)``.
    mask : ndarray of bool, shape (x, y, z)
    """
    spread = without_trend(series).std(axis=0)
    mean = series.mean(axis=0)
    ratio = np.zeros(mask.shape, np.float32)
    ratio[mask] = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)
    return ratio


def carpet(
    series: np.ndarray, tissues: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Return the time courses of all voxels as a picture (Power 2017, NeuroImage 154:150).

    Grey matter on top, then white matter and CSF, each from the top of the head to its bottom.
    Rows are means of neighbors in that order, without linear trend, in their standard deviations.

    Parameters
    ----------
    series : ndarray of shape (volume, voxel)
        In the order of ``numpy.nonzero(mask)``.
    tissues : ndarray of shape (x, y, z)
        As `grid_tissues` returns them.
    mask : ndarray of bool, shape (x, y, z)

    Returns
    -------
    picture : ndarray of int8, (row, volume)
        32 = one standard deviation.
    rows : list of int
        Rows of gray matter, white matter and CSF.
    """
    detrended = without_trend(series)
    x, y, z = np.nonzero(mask)
    downwards = np.lexsort((x, y, -z))
    blocks, rows = [], []
    for tissue in (1, 2, 0):
        of_tissue = downwards[tissues[mask][downwards] == tissue]
        count = round(CARPET_ROWS * len(of_tissue) / len(downwards))
        groups = [group for group in np.array_split(of_tissue, max(1, count)) if len(group)]
        blocks += [detrended[:, group].mean(axis=1) for group in groups]
        rows.append(len(groups))
    picture = np.array(blocks)
    spread = picture.std(axis=1, keepdims=True)
    picture = np.divide(picture, spread, out=np.zeros_like(picture), where=spread > 0)
    return np.clip(np.rint(32 * picture), -127, 127).astype(np.int8), rows
