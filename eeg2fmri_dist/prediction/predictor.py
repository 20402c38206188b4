"""What all recordings of a prediction have in common: the model, its scores, regions, a scan."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from eeg2fmri_dist.calibration.scan import CalibrationScan, adapt
from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.evaluation.metrics_file import ModelScores, find_scores, require_scores
from eeg2fmri_dist.inference.model_file import TrainedModel, load_model
from eeg2fmri_dist.inference.predict import check_predicts
from eeg2fmri_dist.inference.weights import locate_weights, weights_sha256
from eeg2fmri_dist.prediction import inputs
from eeg2fmri_dist.prediction.calibrated import chosen_penalty, read_scan_image
from eeg2fmri_dist.prediction.inputs import PreparedEeg
from eeg2fmri_dist.scores.networks import Regions


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
        Returns what a calibration scan tells of the subject, read once.
    """

    trained: TrainedModel
    weights_sha256: str
    regions: Regions
    model_scores: ModelScores | None
    prepare: Callable[[Path], PreparedEeg]
    device: torch.device
    scan: Callable[[], CalibrationScan] | None = None


def load_predictor(config: PredictConfig) -> Predictor:
    """Load what all recordings have in common.

    Raises
    ------
    CheckpointError
        If there is no such model, or it does not predict from EEG.
    ConfigError
        If `scores` names a file that does not tell of these weights, or the model is to be adapted
        to a subject and its evaluation did not try that.
    """
    path = locate_weights(config.run, config.checkpoint)
    trained, sha256 = load_model(path), weights_sha256(path)
    check_predicts(trained)
    model_scores = _find_scores(config, sha256)
    if config.calibration_eeg is not None:
        chosen_penalty(model_scores, n_volumes=0)  # fails before the work, not after it
    predictor = Predictor(
        trained=trained,
        weights_sha256=sha256,
        regions=inputs.find_regions(config, trained),
        model_scores=model_scores,
        prepare=functools.partial(inputs.prepare_eeg, config, trained),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    if config.calibration is None:
        return predictor
    read = functools.partial(_scan, predictor, config.calibration, config.calibration_eeg)
    return replace(predictor, scan=functools.cache(read))


def scores_path(config: PredictConfig) -> Path:
    """Return where it is told how the model was scored: a metrics.json, or its folder."""
    if config.scores is not None:
        return config.scores
    return config.run if config.run.is_dir() else config.run.parent


def _find_scores(config: PredictConfig, sha256: str) -> ModelScores | None:
    find = find_scores if config.scores is None else require_scores
    return find(scores_path(config), sha256)


def _scan(predictor: Predictor, bold: Path, eeg: Path | None) -> CalibrationScan:
    """What a calibration scan tells, and with its EEG how far it moves the model."""
    trained = predictor.trained
    volumes = inputs.read_scan(trained, bold)
    known = read_scan_image(trained, volumes, predictor.model_scores)
    if eeg is None:
        return known
    penalty = chosen_penalty(predictor.model_scores, len(volumes))
    power = predictor.prepare(eeg).power
    return adapt(trained, known, volumes, power, penalty, predictor.device)
