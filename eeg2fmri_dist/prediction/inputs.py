"""From files to what a model takes: EEG, a calibration scan, regions. The way to preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.config.preprocess import BoldConfig
from eeg2fmri_dist.inference.model_file import TrainedModel
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.scores.networks import Regions
from preprocessing.eeg.new_recording import describe_eeg, model_eeg
from preprocessing.quality.eeg_alone import eeg_figures
from preprocessing.template.atlas import load_atlases


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


def prepare_eeg(config: PredictConfig, trained: TrainedModel, path: Path) -> PreparedEeg:
    """Preprocess EEG as that of the training data was.

    Raises
    ------
    DataError
        If it cannot be read, or lacks too many of the model's channels.
    """
    card, settings = trained.card, trained.eeg
    chosen = (settings, card.preprocessing["dummy_scans"], config.marker, config.interpolate)
    eeg = model_eeg(path, card.channel_names, card.tr_s, *chosen)
    figures = eeg_figures(eeg.features, card.tr_s)
    return PreparedEeg(eeg.features.power, eeg.start_s, describe_eeg(eeg, settings), figures)


def read_scan(trained: TrainedModel, path: Path) -> np.ndarray:
    """Return a BOLD run on the model's grid, (volume, x, y, z), as the training data were made.

    Raises
    ------
    DataError
        If it cannot be read, or its registration fails.
    """
    from preprocessing.bold.scan_on_grid import scan_volumes

    card = trained.card
    settings = BoldConfig.model_validate(card.preprocessing["bold"])
    return scan_volumes(path, card.tr_s, settings, card.preprocessing["dummy_scans"])


def find_regions(config: PredictConfig, trained: TrainedModel) -> Regions:
    """Return the regions of the time series, on the model's grid."""
    atlases = load_atlases(config.atlas, trained.grid, trained.mask)
    name, atlas = next(iter(atlases.items()))
    about = f"{name} ({atlas.source})"
    return Regions.within(trained.mask, atlas.labels, atlas.names[1:], about)
