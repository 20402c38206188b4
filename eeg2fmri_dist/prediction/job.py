"""Predict one recording after the other: what is to be done, doing it, what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.calibration.scan import around_scan
from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.files.provenance import collect_provenance
from eeg2fmri_dist.inference.predict import predict_bold_in_blocks
from eeg2fmri_dist.prediction.index_page import write_index
from eeg2fmri_dist.prediction.outputs import write_dataset, write_predicted_run, write_sidecar
from eeg2fmri_dist.prediction.page import page_of, render_page
from eeg2fmri_dist.prediction.predictor import Predictor, load_predictor
from eeg2fmri_dist.prediction.tasks import Task, make_tasks
from preprocessing.eeg.new_recording import find_eeg

logger = logging.getLogger(__name__)


def predict(config: PredictConfig) -> None:
    """Predict the recordings that are not up to date.

    Raises
    ------
    CheckpointError, ConfigError
        See `load_predictor` and `make_tasks`.
    DataError
        After all others are done, if any recording failed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    predictor, tasks = _prepare(config)
    folder = None if config.writes_one_file else config.output
    if folder is not None:
        write_dataset(folder)
    run_tasks(tasks, predictor, folder)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted, and why."""
    predictor, tasks = _prepare(config)
    width = max(len(task.key) for task in tasks)
    return [
        f"model {config.run}",
        f"regions {predictor.regions.atlas}, {len(predictor.regions)}",
        *(f"{task.key:<{width}}  {task.state}  {task.files.bold}" for task in tasks),
    ]


def _prepare(config: PredictConfig) -> tuple[Predictor, list[Task]]:
    recordings = find_eeg(config.eeg, config.task, config.subjects)
    predictor = load_predictor(config)
    return predictor, make_tasks(config, recordings, predictor)


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
        source["ReferenceImage"] = "mean image of a calibration scan of the same subject"
        source["ScaledToPerson"] = scan.scale is not None
        if scan.adapted_by:
            source["AdaptedToPerson"] = scan.adapted_by
    overview = write_predicted_run(task.files, blocks, n_volumes, trained.card, regions, source)
    write_text(task.files.page, render_page(page_of(task, prepared, overview, predictor)))
    about = source | {
        "EEG": prepared.facts,
        "MadeFrom": task.made_from,
        "Provenance": collect_provenance(),
    }
    write_sidecar(task.files, trained.card, about)
    return n_volumes
