"""Predict one recording after the other: what is to be done, doing it, what went wrong."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from eeg2fmri_dist.calibration.scan import CalibrationScan, adapt, around_scan
from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.errors import ConfigError, DataError, SuiteError
from eeg2fmri_dist.evaluation.labels import MODELS
from eeg2fmri_dist.evaluation.metrics_file import METRICS, ModelScores, find_scores, require_scores
from eeg2fmri_dist.evaluation.results import ORIGINS
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.files.made_from import describe
from eeg2fmri_dist.files.provenance import collect_provenance
from eeg2fmri_dist.inference.model_file import TrainedModel, load_model
from eeg2fmri_dist.inference.predict import check_predicts, predict_bold_in_blocks
from eeg2fmri_dist.inference.weights import locate_weights, weights_sha256
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.slicer import slice_frames
from eeg2fmri_dist.prediction.index_page import write_index
from eeg2fmri_dist.prediction.outputs import (
    Overview,
    RunFiles,
    check_dataset,
    write_predicted_run,
    write_sidecar,
)
from eeg2fmri_dist.prediction.page import PredictionPage, predicted_curves, render_page
from eeg2fmri_dist.prediction.personal import chosen_penalty, read_scan_image
from eeg2fmri_dist.scores.networks import Regions
from eeg2fmri_dist.store import Atlas

logger = logging.getLogger(__name__)


class Recording(Protocol):
    """EEG that was found."""

    @property
    def key(self) -> str:
        """Name of the recording."""

    @property
    def path(self) -> Path:
        """Header, or the file itself."""

    @property
    def entities(self) -> dict[str, str]:
        """BIDS entities without their prefix, in order."""

    def parts(self) -> list[Path]:
        """Files of the recording; raises DataError where it cannot be used."""


@dataclass(frozen=True)
class PreparedEeg:
    """EEG of a recording as the model takes it.

    Attributes
    ----------
    power : ndarray of shape (volume, channel, frequency)
        In uV^2, channels in the model's order.
    start_s : float
        When the first volume begins, from the first sample of the EEG.
    facts : dict of str to str
        What became of it on the way, in words.
    figures : list of Figure
        What it looks like.
    """

    power: np.ndarray
    start_s: float
    facts: dict[str, str]
    figures: list[Figure]


@dataclass(frozen=True)
class Task:
    """A recording that is to be predicted.

    Attributes
    ----------
    key : str
        Its name.
    path : Path
        Its EEG.
    files : RunFiles
        What will be written.
    made_from : dict or None
        JSON of all that the result depends on; None where the recording cannot be used.
    problem : SuiteError or None
        Why it cannot be used.
    """

    key: str
    path: Path
    files: RunFiles
    made_from: dict[str, Any] | None
    problem: SuiteError | None = None

    @property
    def is_done(self) -> bool:
        """Whether the files are there, of these very inputs."""
        return self.made_from is not None and self.files.why_stale(self.made_from) is None

    @property
    def state(self) -> str:
        """What is to be done and why, in words."""
        if self.made_from is None:
            return f"cannot be used: {self.problem.what if self.problem else 'unknown'}"
        reason = self.files.why_stale(self.made_from)
        return "up to date" if reason is None else f"to do: {reason}"


@dataclass(frozen=True)
class Predictor:
    """What all recordings have in common.

    Attributes
    ----------
    trained : TrainedModel
    weights_sha256 : str
        Of its file.
    regions : Regions
        On its grid.
    model_scores : ModelScores or None
        How it was scored.
    prepare : callable
        Path of a recording -> `PreparedEeg`.
    device : torch.device
    scan : callable or None
        Returns what a calibration scan tells of the person, read once.
    """

    trained: TrainedModel
    weights_sha256: str
    regions: Regions
    model_scores: ModelScores | None
    prepare: Callable[[Path], PreparedEeg]
    device: torch.device
    scan: Callable[[], CalibrationScan] | None = None


def load_predictor(
    config: PredictConfig,
    find_atlases: Callable[[tuple[int, int, int], np.ndarray], dict[str, Atlas]],
    prepare: Callable[[TrainedModel, Path], PreparedEeg],
    read_scan: Callable[[TrainedModel, Path], np.ndarray],
) -> Predictor:
    """Load what all recordings have in common.

    Parameters
    ----------
    config : PredictConfig
    find_atlases : callable
        Grid and brain mask -> atlases on it, the one for the time series first.
    prepare : callable
        Model and path of a recording -> `PreparedEeg`.
    read_scan : callable
        Model and path of a BOLD run -> its volumes (volume, x, y, z) on the model's grid.

    Raises
    ------
    CheckpointError
        If there is no such model, or it does not predict from EEG.
    ConfigError
        If `scores` names a file that does not tell of these weights, or the model is to be adapted
        to a person and its evaluation did not try that.
    """
    path = locate_weights(config.run, config.checkpoint)
    trained, weights = load_model(path), weights_sha256(path)
    check_predicts(trained)
    name, atlas = next(iter(find_atlases(trained.grid, trained.mask).items()))
    model_scores = find_model_scores(config, weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.calibration_eeg is not None:
        chosen_penalty(model_scores, n_volumes=0)  # fails before the work, not after it

    @functools.cache
    def scan() -> CalibrationScan:
        assert config.calibration is not None
        volumes = read_scan(trained, config.calibration)
        known = read_scan_image(trained, volumes, model_scores)
        if config.calibration_eeg is None:
            return known
        penalty = chosen_penalty(model_scores, len(volumes))
        power = prepare(trained, config.calibration_eeg).power
        return adapt(trained, known, volumes, power, penalty, device)

    return Predictor(
        trained=trained,
        weights_sha256=weights,
        regions=Regions.within(
            trained.mask, atlas.labels, atlas.names[1:], f"{name} ({atlas.source})"
        ),
        model_scores=model_scores,
        prepare=functools.partial(prepare, trained),
        device=device,
        scan=None if config.calibration is None else scan,
    )


def make_tasks(
    config: PredictConfig, recordings: Sequence[Recording], predictor: Predictor
) -> list[Task]:
    """Say what is to be written for each recording, and from what.

    Parameters
    ----------
    config : PredictConfig
    recordings : sequence of Recording
    predictor : Predictor

    Raises
    ------
    ConfigError
        If several recordings would go into one file, or the output holds another data set.
    """
    if config.writes_one_file and len(recordings) > 1:
        raise ConfigError(
            f"{len(recordings)} recordings cannot go into one file",
            where="output",
            remedy="give a folder as output=...",
        )
    people = sorted({recording.entities["sub"] for recording in recordings})
    if config.calibration is not None and len(people) > 1:
        raise ConfigError(
            f"a scan of one person cannot calibrate {len(people)} ({', '.join(people)})",
            where="calibration",
            remedy="predict each person with a command of their own",
        )
    if not config.writes_one_file:
        check_dataset(config.output)
    return [_task(config, recording, predictor) for recording in recordings]


def _task(config: PredictConfig, recording: Recording, predictor: Predictor) -> Task:
    if config.writes_one_file:
        files = RunFiles.beside(config.output)
    else:
        space = predictor.trained.card.space
        segmentation = "HarvardOxford" if "harvard" in predictor.regions.atlas else "Parcels"
        files = RunFiles.in_dataset(config.output, recording.entities, space, segmentation)
    try:
        made_from = _describe_inputs(config, recording.parts(), predictor.weights_sha256)
    except DataError as problem:
        return Task(recording.key, recording.path, files, None, problem)
    return Task(recording.key, recording.path, files, made_from)


def _describe_inputs(config: PredictConfig, parts: Sequence[Path], weights: str) -> dict[str, Any]:
    """All that the prediction of a recording depends on; JSON values."""
    scores = scores_path(config)
    told = hashlib.sha256(scores.read_bytes()).hexdigest() if scores.is_file() else None
    calibration = [path for path in (config.calibration, config.calibration_eeg) if path]
    scan = {"Scan": _states(calibration)} if calibration else {}
    settings = config.model_dump(mode="json", include={"marker", "interpolate", "atlas"})
    return describe(Weights=weights, EEG=_states(parts), **scan, Settings=settings, Scores=told)


def _states(paths: Sequence[Path]) -> list[list[Any]]:
    """Name, size and time of files; raises DataError where one is not there."""
    for path in paths:
        if not path.is_file():
            raise DataError("no such file", where=path, remedy="check the path")
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def scores_path(config: PredictConfig) -> Path:
    """Return the metrics.json that tells how the model was scored."""
    if config.scores is not None:
        return config.scores / METRICS if config.scores.is_dir() else config.scores
    folder = config.run if config.run.is_dir() else config.run.parent
    return folder / METRICS


def find_model_scores(config: PredictConfig, weights: str) -> ModelScores | None:
    """Return how the model was scored; None where nothing says so.

    Raises
    ------
    ConfigError
        If `scores` names a file that does not tell of these weights.
    """
    if config.scores is not None:
        return require_scores(config.scores, weights)
    return find_scores(scores_path(config), weights)


def run_tasks(tasks: Sequence[Task], predictor: Predictor, folder: Path | None = None) -> None:
    """Predict what is not up to date; one recording that fails does not stop the others.

    Parameters
    ----------
    tasks : sequence of Task
    predictor : Predictor
    folder : Path or None
        Data set that gets an index of its pages; None = there is none.

    Raises
    ------
    DataError
        After all others are done, if any failed.
    """
    failed: dict[str, str] = {}
    for number, task in enumerate(tasks, 1):
        place = f"{task.key} ({number} of {len(tasks)})"
        if task.is_done:
            logger.info("%s is up to date", place)
            continue
        try:
            if task.problem is not None:
                raise task.problem
            n_volumes = _predict(task, predictor)
        except DataError as error:
            logger.error("%s failed: %s", place, error)
            failed[task.key] = error.what
        else:
            logger.info("%s: predicted %d volumes, %s", place, n_volumes, task.files.page)
    if folder is not None:
        write_index(folder, failed)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(tasks)} recordings could not be predicted: "
            f"{', '.join(failed)} (reasons above); the others are done",
            remedy="correct them and type the same command again: what is done is kept",
        )


def _predict(task: Task, predictor: Predictor) -> int:
    prepared = predictor.prepare(task.path)
    trained, regions = predictor.trained, predictor.regions
    n_volumes = len(prepared.power)
    blocks = predict_bold_in_blocks(trained, prepared.power, predictor.device)
    source: dict[str, Any] = {"Sources": [str(task.path)], "StartTime": prepared.start_s}
    if predictor.scan is not None:
        scan = predictor.scan()
        blocks = around_scan(scan, blocks, prepared.power, trained)
        source["ReferenceImage"] = "mean image of a calibration scan of the same person"
        source["ScaledToPerson"] = scan.scale is not None
        if scan.adapted_by:
            source["AdaptedToPerson"] = scan.adapted_by
    overview = write_predicted_run(task.files, blocks, n_volumes, trained.card, regions, source)
    write_text(task.files.page, render_page(_page(task, prepared, overview, predictor)))
    about = source | {
        "EEG": prepared.facts,
        "MadeFrom": task.made_from,
        "Provenance": collect_provenance(),
    }
    write_sidecar(task.files, trained.card, about)
    return n_volumes


def _page(
    task: Task, prepared: PreparedEeg, overview: Overview, predictor: Predictor
) -> PredictionPage:
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
        text = "mean image of a scan of this person × (1 + predicted change)"
        scan = predictor.scan()
        if scan.scale is not None:
            text = f"{text}, scaled in each voxel as in the scan"
        adapted_by = scan.adapted_by
        return f"{text}; the change is adapted to the person: {adapted_by}" if adapted_by else text
    trained = predictor.trained
    if trained.data.normalise == "voxelwise":
        return "mean image of the training subjects × (1 + predicted change): the anatomy is theirs"
    return "intensity in the units of the training data"
