"""Recordings to predict: what is to be written for each, from what, and whether it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.errors import ConfigError, DataError, SuiteError
from eeg2fmri_dist.evaluation.metrics_file import METRICS
from eeg2fmri_dist.files.made_from import describe
from eeg2fmri_dist.prediction.outputs import RunFiles, check_dataset
from eeg2fmri_dist.prediction.predictor import Predictor, scores_path
from preprocessing.eeg.new_recording import EegFile


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


def make_tasks(
    config: PredictConfig, recordings: Sequence[EegFile], predictor: Predictor
) -> list[Task]:
    """Say what is to be written for each recording, and from what.

    Parameters
    ----------
    config : PredictConfig
    recordings : sequence of EegFile
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
    subjects = sorted({recording.entities["sub"] for recording in recordings})
    if config.calibration is not None and len(subjects) > 1:
        raise ConfigError(
            f"a scan of one subject cannot calibrate {len(subjects)} ({', '.join(subjects)})",
            where="calibration",
            remedy="predict each subject with a command of their own",
        )
    if not config.writes_one_file:
        check_dataset(config.output)
    return [_task(config, recording, predictor) for recording in recordings]


def _task(config: PredictConfig, recording: EegFile, predictor: Predictor) -> Task:
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
    scores = scores / METRICS if scores.is_dir() else scores
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
