"""A run's part of the report: facts, learning curves, figures of one test recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eeg2fmri_dist.config.model import EnsembleConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.evaluation.report import figures
from eeg2fmri_dist.evaluation.report.network_figure import FEWEST_REGIONS, network_figure
from eeg2fmri_dist.evaluation.report.spectra import spectra_figures
from eeg2fmri_dist.evaluation.results import RunSection
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.files.run_folder import load_run_config
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.models.build import count_parameters
from eeg2fmri_dist.pages.figure import Curve, FigureGroup
from eeg2fmri_dist.scores.networks import Regions
from eeg2fmri_dist.store import Layout
from eeg2fmri_dist.training.monitoring.monitor import read_log

_CURVES = {
    "loss": ("train/loss_epoch", "validation/loss"),
    "PSNR, paper (dB)": ("train/psnr_db", "validation/psnr_db"),
    "SSIM, paper": ("train/ssim", "validation/ssim"),
    "r of regions": ("train/r_region", "validation/r_region"),
}

_SCALES = {"log": "log power", "power": "power"}


def describe_run(
    path: Path, trained: TrainedModel, summary: dict[str, Any], rows: list[ScoreRow]
) -> RunSection:
    """Return a run's section without figures."""
    config = load_run_config(path)
    reference = "global z-score undone"
    if config.data.normalize == "voxelwise":
        reference = "mean image of the training subjects x (1 + predicted change)"
    log = read_log(path)
    return RunSection(
        name=path.name if path.parent.name != "paper" else f"paper/{path.name}",
        recipe=config.recipe,
        model=config.model.name,
        parameters=count_parameters(trained.model),
        rows=rows,
        curves=[
            Curve(label, _points(log, train), _points(log, validation))
            for label, (train, validation) in _CURVES.items()
        ],
        chosen_epoch=trained.card.epoch,
        facts={
            "Target": f"{config.data.normalize} normalization",
            "Predicted volume": reference,
            "EEG": f"{_SCALES[trained.data.eeg_scale]}, z-scored by {config.data.eeg_normalize}, "
            f"{config.data.context} TRs of context",
            **_training_facts(config, summary),
        },
    )


def _training_facts(config: TrainConfig, summary: dict[str, Any]) -> dict[str, str]:
    if config.model.name == "ridge":
        return {
            "Training": f"closed form, for each of the {config.model.targets}",
            "Penalty chosen by": "squared error of validation subjects",
        }
    if isinstance(config.model, EnsembleConfig):
        return {"Mean of": ", ".join(run.name for run in config.model.members)}
    optimization = config.optimization
    return {
        "Training": f"{summary.get('steps', '?')} steps, batch {optimization.batch_size}, "
        f"learning rate {optimization.learning_rate:g}, {config.engine.precision}",
        "Checkpoint chosen by": f"{optimization.checkpoint_metric} of validation subjects",
    }


def illustrate(
    predicted: np.ndarray,
    true: np.ndarray,
    layout: Layout,
    regions: Regions,
    regional_series: Callable[[np.ndarray], np.ndarray],
    *,
    subject: str,
    tr_s: float,
    in_time: bool,
) -> list[FigureGroup]:
    """Return the figures of one recording.

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, x, y, z)
        Units of the store.
    layout : Layout
        Of the store.
    regions : Regions
        On its grid.
    regional_series : callable
        Volumes -> detrended regional means.
    subject : str
        Whose recording it is.
    tr_s : float
        Repetition time in s.
    in_time : bool
        Whether the prediction is of change over time, shown by regional curves and matrices.
    """
    groups = [_volumes(predicted, true, layout, subject)]
    if in_time:
        groups += _time_courses(
            regional_series(predicted),
            regional_series(true),
            regions,
            subject=subject,
            tr_s=tr_s,
            size_mm=voxel_mm(layout),
        )
    return groups


def _volumes(predicted: np.ndarray, true: np.ndarray, layout: Layout, subject: str) -> FigureGroup:
    """Slices of the middle volume, and of its change from the mean."""
    middle = len(true) // 2
    size_mm = voxel_mm(layout)
    return FigureGroup(
        "Volumes",
        f"Subject {subject}, volume {middle}. Above: intensity. Below: percent change from the "
        "recording's mean.",
        [
            figures.volume_slices(predicted[middle], true[middle], layout.mask, size_mm),
            figures.change_slices(
                figures.temporal_change(predicted, middle),
                figures.temporal_change(true, middle),
                layout.mask,
                size_mm,
            ),
        ],
    )


def voxel_mm(layout: Layout) -> list[float]:
    """Return the size of a voxel along x, y and z."""
    return np.sqrt((layout.affine[:3, :3] ** 2).sum(axis=0)).tolist()


def _time_courses(
    predicted: np.ndarray,
    true: np.ndarray,
    regions: Regions,
    *,
    subject: str,
    tr_s: float,
    size_mm: Sequence[float],
) -> list[FigureGroup]:
    """Curves and correlation matrices of regional means, (volume, region)."""
    return [
        FigureGroup(
            "Regional BOLD",
            f"Subject {subject}, from the best predicted region to the worst.",
            figures.regional_curves(predicted, true, regions.names, tr_s),
        ),
        FigureGroup(
            "Correlation matrices",
            f"Subject {subject}, {len(regions)} regions.",
            figures.correlation_matrices(predicted, true, regions.names),
        ),
        *_networks(predicted, true, regions, subject, size_mm),
        FigureGroup(
            "Spectra",
            f"Subject {subject}, mean over {len(regions)} regions. With few windows unrelated "
            "series are coherent, too: compare with another model.",
            spectra_figures(predicted, true, tr_s),
        ),
    ]


def _networks(
    predicted: np.ndarray,
    true: np.ndarray,
    regions: Regions,
    subject: str,
    size_mm: Sequence[float],
) -> list[FigureGroup]:
    """Networks of regional means, (volume, region), where there are enough regions for some."""
    if len(regions) < FEWEST_REGIONS:
        return []
    return [
        FigureGroup(
            "Resting-state networks",
            f"Subject {subject}: groups of regions whose correlations with all others are alike in "
            "the true BOLD.",
            [network_figure(predicted, true, regions, size_mm)],
        )
    ]


def _points(log: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(record["epoch"], record[name]) for record in log if name in record]
