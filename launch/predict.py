"""EEG -> predicted BOLD: python launch/predict.py configs/predict/demo.yaml [eeg=...]."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eeg2fmri_dist.interrupts import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.command import run_verb  # noqa: E402
from eeg2fmri_dist.config.evaluate import PredictConfig  # noqa: E402

if TYPE_CHECKING:
    from eeg2fmri_dist.export import TrainedModel
    from eeg2fmri_dist.prediction_job import PreparedEeg, Task
    from eeg2fmri_dist.scores.networks import Regions


def act(config: PredictConfig) -> None:
    """Predict the recordings that are not up to date."""
    import torch

    from eeg2fmri_dist import prediction_job
    from eeg2fmri_dist.predicted_run import write_dataset

    if config.threads:
        torch.set_num_threads(config.threads)
    trained, weights, regions, tasks = _load(config)
    if not config.writes_one_file:
        write_dataset(config.output)
    predictor = prediction_job.Predictor(
        trained=trained,
        weights_sha256=weights,
        regions=regions,
        standing=prediction_job.find_model_standing(config, weights),
        prepare=functools.partial(_prepare, config, trained),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    prediction_job.run_tasks(tasks, predictor)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted."""
    _, _, regions, tasks = _load(config)
    width = max(len(task.key) for task in tasks)
    return [
        f"model {config.run}",
        f"regions {regions.atlas}, {len(regions)}",
        *(f"{task.key:<{width}}  {task.state}  {task.files.bold}" for task in tasks),
    ]


# Here, because prediction and preprocessing do not know each other.
def _load(config: PredictConfig) -> tuple[TrainedModel, str, Regions, list[Task]]:
    from eeg2fmri_dist.export import load_model
    from eeg2fmri_dist.predict import check_predicts
    from eeg2fmri_dist.prediction_job import make_tasks
    from eeg2fmri_dist.scores.networks import Regions
    from eeg2fmri_dist.training.manifest import locate_weights, weights_sha256
    from preprocessing.atlas import load_atlases
    from preprocessing.eeg_alone import find_eeg

    recordings = find_eeg(config.eeg, config.task, config.subjects)
    path = locate_weights(config.run, config.checkpoint)
    trained, weights = load_model(path), weights_sha256(path)
    check_predicts(trained)
    name, atlas = next(iter(load_atlases(config.atlas, trained.grid, trained.mask).items()))
    regions = Regions.within(
        trained.mask, atlas.labels, atlas.names[1:], f"{name} ({atlas.source})"
    )
    tasks = make_tasks(config, recordings, trained.card.space, regions, weights)
    return trained, weights, regions, tasks


def _prepare(config: PredictConfig, trained: TrainedModel, path: Path) -> PreparedEeg:
    from eeg2fmri_dist.evaluation.results import Figure
    from eeg2fmri_dist.prediction_job import PreparedEeg
    from preprocessing.eeg_alone import describe_eeg, model_eeg
    from preprocessing.quality.eeg_alone import eeg_figures

    card, settings = trained.card, trained.eeg
    drop_volumes = card.preprocessing["drop_volumes"]
    eeg = model_eeg(
        path, card.channel_names, card.tr_s, settings, drop_volumes, config.marker,
        config.interpolate,
    )  # fmt: skip
    figures = [
        Figure(drawn.title, drawn.caption, drawn.alt, drawn.data, drawn.media_type, wide)
        for drawn in eeg_figures(eeg.features, card.tr_s)
        for wide in [drawn.name == "topographies"]
    ]
    return PreparedEeg(eeg.features.power, eeg.start_s, describe_eeg(eeg, settings), figures)


if __name__ == "__main__":
    sys.exit(run_verb(PredictConfig, act, plan))
