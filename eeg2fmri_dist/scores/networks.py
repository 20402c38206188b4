"""Regions of the brain on the grid, their mean time courses, and how these correlate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.cluster import hierarchy

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.scores.temporal import DETREND_ORDER, detrend, temporal_correlation, unit_series


@dataclass(frozen=True)
class Regions:
    """Regions on the grid of the store.

    Attributes
    ----------
    labels : ndarray of shape (x, y, z), int
        0 = none; label ``k`` is the region ``names[k - 1]``. Every region holds at least one voxel.
    names : tuple of str
        One per region.
    atlas : str
        Where the regions are from, for the report ("Harvard-Oxford, 55 regions").
    """

    labels: np.ndarray
    names: tuple[str, ...]
    atlas: str

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def within(
        cls,
        mask: np.ndarray,
        labels: np.ndarray,
        names: Sequence[str],
        atlas: str,
        min_voxels: int = 5,
    ) -> Regions:
        """Keep regions with at least `min_voxels` voxels inside the mask, numbered from 1.

        Raises
        ------
        DataError
            If no region is left, or names and labels do not fit.
        """
        inside = np.where(mask.astype(bool), labels, 0).astype(np.int64)
        if inside.max(initial=0) > len(names):
            raise DataError(
                f"label {inside.max()} has no name (there are {len(names)} names)",
                where=atlas,
                remedy="give one name per label, in the order of the labels",
            )
        counts = np.bincount(inside.ravel(), minlength=len(names) + 1)[1:]
        kept = np.flatnonzero(counts >= min_voxels)
        if len(kept) == 0:
            raise DataError(f"no region has {min_voxels} voxels inside the mask", where=atlas)
        renumber = np.zeros(len(names) + 1, dtype=np.int16)
        renumber[kept + 1] = np.arange(1, len(kept) + 1)
        return cls(renumber[inside], tuple(names[index] for index in kept), atlas)


def regional_means(volumes: np.ndarray, labels: np.ndarray, n_regions: int) -> np.ndarray:
    """Mean over the voxels of each region, for each volume.

    Parameters
    ----------
    volumes : ndarray of shape (volume, x, y, z)
        BOLD in any unit.
    labels : ndarray of shape (x, y, z), int
        0 = none, 1 ... `n_regions`.
    n_regions : int
        Number of regions.

    Returns
    -------
    ndarray of shape (volume, region), float64

    Raises
    ------
    DataError
        If a region has no voxel or the grids differ.
    """
    if volumes.shape[1:] != labels.shape:
        raise DataError(f"labels are {labels.shape}, volumes are {volumes.shape[1:]}")
    voxels = np.flatnonzero(labels)
    region = labels.ravel()[voxels].astype(np.int64) - 1
    counts = np.bincount(region, minlength=n_regions)
    if len(counts) > n_regions or (counts == 0).any():
        raise DataError(
            f"{n_regions} regions, but voxels per label are {counts.tolist()}",
            remedy="number regions from 1 without gaps (Regions.within does)",
        )
    average = sparse.csr_array(
        (1.0 / counts[region], (region, np.arange(len(voxels)))), shape=(n_regions, len(voxels))
    )
    return np.stack([average @ volume.ravel()[voxels].astype(np.float64) for volume in volumes])


def regional_series(blocks: Iterable[np.ndarray], regions: Regions) -> np.ndarray:
    """Regional means of one recording, detrended: what every score of regions is taken from.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (volume, x, y, z)
        The recording's volumes in stored units, in order, in one block or several.
    regions : Regions
        On the same grid.

    Returns
    -------
    ndarray of shape (volume, region), float64
    """
    means = [regional_means(block, regions.labels, len(regions)) for block in blocks]
    return detrend(np.concatenate(means), DETREND_ORDER)


def regional_correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    """``r_region``: mean over regions of the temporal r of two `regional_series`."""
    return float(temporal_correlation(predicted, true).mean())


def correlation_matrix(series: np.ndarray) -> np.ndarray:
    """Pearson correlation of regions with each other.

    Parameters
    ----------
    series : ndarray of shape (volume, region)
        Regional means.

    Returns
    -------
    ndarray of shape (region, region)
        Ones on the diagonal; 0 beside it for a region that never changes.
    """
    unit = unit_series(series)
    matrix = np.clip(unit.T @ unit, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def find_networks(correlations: np.ndarray, n_networks: int) -> np.ndarray:
    """Group regions whose correlations with all regions are alike (Ward's method, scipy).

    Parameters
    ----------
    correlations : ndarray of shape (region, region)
        Of `correlation_matrix`.
    n_networks : int
        Number of groups.

    Returns
    -------
    ndarray of shape (region,), int
        Network of each region, from 0; network 0 has the most regions.
    """
    groups = hierarchy.fcluster(hierarchy.ward(correlations), n_networks, "maxclust") - 1
    by_size = np.argsort(-np.bincount(groups), kind="stable")
    return np.argsort(by_size)[groups]


def network_correlations(correlations: np.ndarray, networks: np.ndarray) -> np.ndarray:
    """Mean correlation of the regions of each network with those of each other.

    Parameters
    ----------
    correlations : ndarray of shape (region, region)
        Of `correlation_matrix`.
    networks : ndarray of shape (region,), int
        Of `find_networks`.

    Returns
    -------
    ndarray of shape (network, network)
        On the diagonal without a region's correlation with itself; NaN there for one region alone.
    """
    member = np.eye(networks.max() + 1)[networks]
    others = 1.0 - np.eye(len(networks))
    sums, pairs = (member.T @ matrix @ member for matrix in (correlations * others, others))
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)


def matrix_similarity(predicted: np.ndarray, true: np.ndarray) -> float:
    """Pearson r of the upper triangles of two correlation matrices, without the diagonal.

    0 where one triangle is constant (a prediction that never changes); NaN below 3 regions, where
    there is nothing to correlate.
    """
    upper = np.triu_indices(len(true), k=1)
    if len(upper[0]) < 3:
        return float("nan")
    pair = unit_series(np.stack([predicted[upper], true[upper]], axis=1))
    return float(np.clip(pair[:, 0] @ pair[:, 1], -1.0, 1.0))


def matrix_distance(predicted: np.ndarray, true: np.ndarray, shrinkage: float = 0.1) -> float:
    """Affine-invariant distance of two correlation matrices as positive-definite matrices.

    ``sqrt(sum(log(lambda)^2))`` over the generalized eigenvalues ``predicted v = lambda true v``
    (Pennec, Fillard and Ayache, International Journal of Computer Vision 66(1), 2006). It stays
    the same under any invertible linear mixing of the regions. Matrices from few volumes are
    singular, so both are first moved toward the identity.

    Parameters
    ----------
    predicted, true : ndarray of shape (region, region)
        Of `correlation_matrix`.
    shrinkage : float
        Share of the identity, above 0.

    Returns
    -------
    float
        0 for equal matrices; divided by the square root of the number of regions.
    """
    identity = np.eye(len(true))
    pair = [(1 - shrinkage) * matrix + shrinkage * identity for matrix in (predicted, true)]
    eigenvalues = linalg.eigh(*pair, eigvals_only=True)
    return float(np.sqrt(np.mean(np.log(eigenvalues) ** 2)))


def identified(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> list[bool]:
    """Tell for each recording whether its predicted matrix is most similar to its own true one.

    Finn et al., Nature Neuroscience 18(11), 2015, with `matrix_similarity`. By chance one in as
    many recordings as there are is identified; a tie, as for a constant prediction, is no match.

    Parameters
    ----------
    predicted, true : sequence of ndarray of shape (region, region)
        Of `correlation_matrix`, one per recording, in the same order.
    """
    similarity = np.array([[matrix_similarity(own, other) for other in true] for own in predicted])
    others = np.where(np.eye(len(true), dtype=bool), -np.inf, similarity).max(axis=1)
    return (np.diag(similarity) > others + 1e-9).tolist()
