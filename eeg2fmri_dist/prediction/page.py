"""The page of a predicted recording: its EEG, what was predicted, how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.evaluation.labels import MODELS, format_score, run_title
from eeg2fmri_dist.evaluation.metrics_file import ModelScores
from eeg2fmri_dist.evaluation.results import ORIGINS
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, png, svg
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.slicer import Slicer, slice_frames
from eeg2fmri_dist.pages.style import BLUE
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.prediction.inputs import PreparedEeg
from eeg2fmri_dist.prediction.outputs import DISCLAIMER, Overview
from eeg2fmri_dist.prediction.predictor import Predictor
from eeg2fmri_dist.prediction.tasks import Task
from eeg2fmri_dist.scores.catalog import SCORES

_CURVES = 6
_SCORES = ("r_region", "std_ratio", "psnr_minmax_db", "ssim2d_minmax")
# The model, its controls, and what needs no EEG, in the order of the table.
_ROWS = ("eeg_only", "shifted", "other_subject", "zero", "ridge", "training_mean", "last_volume")
MAIN_SCORE = "r_region"


@dataclass(frozen=True)
class PredictionPage:
    """Everything that the page shows.

    Attributes
    ----------
    title : str
        Names the recording.
    model : str
        In words.
    origin : str
        Where its training data come from, such as ``simulated data``.
    model_scores : ModelScores or None
        How it was scored; None = it never was.
    eeg_facts, facts : mapping of str to str
        What became of the EEG; what the prediction was made from.
    eeg_figures, curves : sequence of Figure
    slicer : Slicer
    files : sequence of str
        Names of the files that hold the prediction.
    """

    title: str
    model: str
    origin: str
    model_scores: ModelScores | None
    eeg_facts: Mapping[str, str]
    facts: Mapping[str, str]
    eeg_figures: Sequence[Figure]
    curves: Sequence[Figure]
    slicer: Slicer
    files: Sequence[str]


def page_of(
    task: Task, prepared: PreparedEeg, overview: Overview, predictor: Predictor
) -> PredictionPage:
    """Gather what the page of a recording shows."""
    card, regions = predictor.trained.card, predictor.regions
    voxel_mm = np.sqrt((np.array(card.affine)[:3, :3] ** 2).sum(axis=0)).tolist()
    n_volumes = len(prepared.power)
    labels = [
        f"volume {at + 1} of {n_volumes}, {at * card.tr_s:.0f} s" for at in overview.frame_volumes
    ]
    return PredictionPage(
        title=_title(task.files.bold),
        model=MODELS.get(card.model["name"], card.model["name"]),
        origin=ORIGINS[card.preprocessing.get("source", {}).get("origin", "real")].value,
        model_scores=predictor.model_scores,
        eeg_facts=prepared.facts,
        facts={
            "Volumes": f"{n_volumes}, TR {card.tr_s:g} s; the first begins {prepared.start_s:.2f} "
            "s after the first sample of the EEG",
            "Grid": f"{' × '.join(map(str, regions.labels.shape))} voxels, {card.space}",
            "Volume": _what_a_volume_is(predictor),
            "Regions": f"{regions.atlas}, {len(regions)} regions",
            "Model": f"{card.recipe} recipe, trained on {len(card.subjects['train'])} subjects, "
            f"epoch {card.epoch}",
            "Weights": f"sha256 {predictor.weights_sha256}",
        },
        eeg_figures=prepared.figures,
        curves=predicted_curves(overview.series, regions.names, card.tr_s),
        slicer=slice_frames(
            overview.frames, overview.mean, predictor.trained.mask, voxel_mm, labels
        ),
        files=[task.files.bold.name, task.files.series.name],
    )


def _title(bold: Path) -> str:
    """Who and what, as the name of the run says it: entities of BIDS, else the whole name."""
    stem = bold.name.removesuffix(".gz").removesuffix(".nii")
    told = [part for part in stem.split("_") if part.startswith(("sub-", "ses-", "task-", "run-"))]
    return " ".join(told) or stem


def _what_a_volume_is(predictor: Predictor) -> str:
    if predictor.scan is not None:
        text = "mean image of a scan of this subject × (1 + predicted change)"
        scan = predictor.scan()
        if scan.scale is not None:
            text = f"{text}, scaled in each voxel as in the scan"
        adapted_by = scan.adapted_by
        return f"{text}; the change is adapted to the subject: {adapted_by}" if adapted_by else text
    trained = predictor.trained
    if trained.data.normalize == "voxelwise":
        return "mean image of the training subjects × (1 + predicted change): the anatomy is theirs"
    return "intensity in the units of the training data"


def render_page(page: PredictionPage) -> str:
    """Return the page: one file that loads nothing else."""
    shown = {
        "page": page,
        "disclaimer": DISCLAIMER,
        "rows": trust_rows(page.model_scores),
        "score_names": _SCORES,
        "scores": SCORES,
    }
    return render(
        "eeg2fmri_dist/prediction/prediction.html.j2",
        shown,
        {"number": format_score, "run_title": run_title},
    )


def trust_rows(model_scores: ModelScores | None) -> list[ScoreRow]:
    """Return the model's score, its controls and baselines, in the order of a table."""
    by_name = {row.name: row for row in model_scores.rows} if model_scores else {}
    return [by_name[name] for name in _ROWS if name in by_name]


def predicted_curves(series: np.ndarray, names: Sequence[str], tr_s: float) -> list[Figure]:
    """Draw the regions that change most, and all regions as a map over time.

    Parameters
    ----------
    series : ndarray of shape (volume, region)
        Regional means in the units of the training data.
    names : sequence of str
        Of the regions.
    tr_s : float
        Repetition time in s.
    """
    change = _percent(series)
    chosen = np.argsort(-change.std(axis=0), kind="stable")[:_CURVES]
    time_s = np.arange(len(series)) * tr_s
    figures = [_map(change, time_s)]
    for region in chosen:
        with drawing(4.2, 1.7) as canvas:
            axes = canvas.subplots()
            axes.plot(time_s, change[:, region], color=BLUE)
            axes.set_xlabel("time (s)")
            axes.set_ylabel("% change")
            axes.margins(x=0)
            data = svg(canvas)
        alt = f"Predicted mean BOLD of {names[region]} over time."
        figures.append(Figure(names[region], "", alt, data, "image/svg+xml"))
    return figures


def _map(change: np.ndarray, time_s: np.ndarray) -> Figure:
    limit = float(np.percentile(np.abs(change), 99)) or 1.0
    with drawing(8.4, 2.6) as canvas:
        axes = canvas.subplots()
        image = axes.imshow(
            change.T,
            aspect="auto",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
            extent=(0.0, float(time_s[-1] + time_s[1] if len(time_s) > 1 else 1), 0, len(change.T)),
        )
        axes.grid(visible=False)
        axes.set_yticks([])
        axes.set_xlabel("time (s)")
        axes.set_ylabel(f"{change.shape[1]} regions")
        add_colorbar(canvas, image, axes, shrink=0.8, pad=0.01, label="% change")
        data = png(canvas)
    alt = f"Predicted mean BOLD of all {change.shape[1]} regions over time."
    return Figure("All regions", "", alt, data, "image/png", wide=True)


def _percent(series: np.ndarray) -> np.ndarray:
    mean = series.mean(axis=0)
    return 100 * np.divide(series - mean, mean, out=np.zeros_like(series), where=mean > 0)
