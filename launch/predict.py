"""EEG -> predicted BOLD: python launch/predict.py configs/predict/demo.yaml [eeg=...]."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eeg2fmri_dist.cli.signals import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command import run_verb  # noqa: E402
from eeg2fmri_dist.config.predict import PredictConfig  # noqa: E402
from eeg2fmri_dist.config.preprocess import BoldConfig  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from eeg2fmri_dist.inference.model_file import TrainedModel
    from eeg2fmri_dist.prediction.job import Predictor, PreparedEeg, Task


def act(config: PredictConfig) -> None:
    """Predict the recordings that are not up to date."""
    import torch

    from eeg2fmri_dist.prediction.job import run_tasks
    from eeg2fmri_dist.prediction.outputs import write_dataset

    if config.threads:
        torch.set_num_threads(config.threads)
    predictor, tasks = _load(config)
    folder = None if config.writes_one_file else config.output
    if folder is not None:
        write_dataset(folder)
    run_tasks(tasks, predictor, folder)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted."""
    predictor, tasks = _load(config)
    width = max(len(task.key) for task in tasks)
    return [
        f"model {config.run}",
        f"regions {predictor.regions.atlas}, {len(predictor.regions)}",
        *(f"{task.key:<{width}}  {task.state}  {task.files.bold}" for task in tasks),
    ]


# Here, because prediction and preprocessing do not know each other.
def _load(config: PredictConfig) -> tuple[Predictor, list[Task]]:
    from eeg2fmri_dist.prediction.job import load_predictor, make_tasks
    from preprocessing.eeg.new_recording import find_eeg
    from preprocessing.template.atlas import load_atlases

    recordings = find_eeg(config.eeg, config.task, config.subjects)
    find_atlases = functools.partial(load_atlases, config.atlas)
    prepare = functools.partial(_prepare, config)
    predictor = load_predictor(config, find_atlases, prepare, _read_scan)
    return predictor, make_tasks(config, recordings, predictor)


def _prepare(config: PredictConfig, trained: TrainedModel, path: Path) -> PreparedEeg:
    from eeg2fmri_dist.prediction.job import PreparedEeg
    from preprocessing.eeg.new_recording import describe_eeg, model_eeg
    from preprocessing.quality.eeg_alone import eeg_figures

    card, settings = trained.card, trained.eeg
    drop_volumes = card.preprocessing["drop_volumes"]
    chosen = (settings, drop_volumes, config.marker, config.interpolate)
    eeg = model_eeg(path, card.channel_names, card.tr_s, *chosen)
    figures = eeg_figures(eeg.features, card.tr_s)
    return PreparedEeg(eeg.features.power, eeg.start_s, describe_eeg(eeg, settings), figures)


def _read_scan(trained: TrainedModel, path: Path) -> np.ndarray:
    from preprocessing.bold.scan_on_grid import scan_volumes

    card = trained.card
    settings = BoldConfig.model_validate(card.preprocessing["bold"])
    return scan_volumes(path, card.tr_s, settings, card.preprocessing["drop_volumes"])


if __name__ == "__main__":
    sys.exit(run_verb(PredictConfig, act, plan))
