"""Resting-state networks: where they lie, and how they hang together in truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.image import AxesImage

from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, png
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.scores.networks import (
    Regions,
    correlation_matrix,
    find_networks,
    matrix_similarity,
    network_correlations,
)

FEWEST_REGIONS = 6
_MOST_NETWORKS = 7  # as many as Yeo et al., Journal of Neurophysiology 106(3), 2011
_REGIONS_PER_NETWORK = 3
_VIEWS = (("from the left", 0, 1), ("from above", 2, -1))  # axis of the view, and its direction
_WIDTH_IN, _HEIGHT_IN = 6.6, 4.6


def network_figure(
    predicted: np.ndarray, true: np.ndarray, regions: Regions, voxel_mm: Sequence[float]
) -> Figure:
    """Draw networks found in the truth on the brain, and mean correlations within and between them.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, region)
        Regional means, detrended.
    regions : Regions
        At least `FEWEST_REGIONS`.
    voxel_mm : sequence of float
        Size of a voxel along x, y and z.
    """
    of_true = correlation_matrix(true)
    networks = find_networks(of_true, min(_MOST_NETWORKS, len(regions) // _REGIONS_PER_NETWORK))
    means = [
        network_correlations(matrix, networks)
        for matrix in (of_true, correlation_matrix(predicted))
    ]
    with drawing(_WIDTH_IN, _HEIGHT_IN) as canvas:
        brains, matrices = canvas.subplots(2, 2)
        painted = np.append(-1, networks)[regions.labels]
        for axes, (name, axis, step) in zip(brains, _VIEWS, strict=True):
            across_mm, up_mm = (size for at, size in enumerate(voxel_mm) if at != axis)
            plane = _seen(np.moveaxis(painted, axis, 0)[::step])
            _draw_brain(axes, name, plane, networks.max() + 1, up_mm / across_mm)
        for axes, name, matrix in zip(matrices, ("True", "Predicted"), means, strict=True):
            image = _draw_matrix(axes, name, matrix)
        add_colorbar(canvas, image, list(matrices), shrink=0.8, ticks=[-1, 0, 1])
        data = png(canvas)
    caption = (
        "Above: networks by color and number. Below: mean correlation of regions within (diagonal)"
        f" and between networks; {_gap(means[0], means[1])}. {_legend(networks, regions.names)}"
    )
    alt = (
        f"Brain from the left and from above with {networks.max() + 1} networks in colors; below, "
        "mean correlations within and between them, true and predicted."
    )
    return Figure("", caption, alt, data, "image/png", wide=True)


def _seen(painted: np.ndarray) -> np.ndarray:
    """Networks (depth, across, up), -1 for none, as they are seen from outside: (up, across)."""
    first = (painted >= 0).argmax(axis=0)
    return np.take_along_axis(painted, first[None], axis=0)[0].T


def _draw_brain(axes: Axes, name: str, plane: np.ndarray, n_networks: int, aspect: float) -> None:
    colors = ListedColormap(matplotlib.colormaps["tab10"].colors[:n_networks])  # type: ignore[attr-defined]
    shown = np.ma.masked_less(plane, 0)
    highest = n_networks - 0.5
    axes.imshow(shown, origin="lower", cmap=colors, vmin=-0.5, vmax=highest, aspect=aspect)
    for network in np.unique(shown.compressed()):
        rows, columns = np.nonzero(plane == network)
        middle = ((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin()
        axes.text(
            columns[middle], rows[middle], str(network + 1), color="white", ha="center", va="center"
        )
    axes.set_title(name)
    axes.axis("off")


def _draw_matrix(axes: Axes, name: str, matrix: np.ndarray) -> AxesImage:
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    numbers = [str(network + 1) for network in range(len(matrix))]
    axes.set_xticks(range(len(matrix)), numbers)
    axes.set_yticks(range(len(matrix)), numbers)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(name)
    return image


def _gap(true: np.ndarray, predicted: np.ndarray) -> str:
    """Say how much more regions correlate within networks than between them."""
    beside = ~np.eye(len(true), dtype=bool)
    of_true, of_predicted = (
        np.nanmean(np.diag(matrix)) - matrix[beside].mean() for matrix in (true, predicted)
    )
    text = f"within less between: true {of_true:.2f}, predicted {of_predicted:.2f}"
    similarity = matrix_similarity(predicted, true)
    if np.isfinite(similarity):
        text += f"; similarity of the pairs of networks {similarity:.2f}"
    return text.replace("-", "−")


def _legend(networks: np.ndarray, names: tuple[str, ...]) -> str:
    """Name each network by its regions, the first few of them."""
    entries = []
    for network in range(networks.max() + 1):
        members = [names[region] for region in np.flatnonzero(networks == network)]
        more = f" and {len(members) - 2} more" if len(members) > 2 else ""
        entries.append(f"{network + 1}: {', '.join(members[:2])}{more}")
    return "; ".join(entries) + "."
