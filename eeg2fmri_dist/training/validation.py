"""Scores of validation subjects while a model trains: free-running, as at test time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eeg2fmri_dist.config.train import OptimisationConfig
from eeg2fmri_dist.data import WindowData, shuffled_eeg
from eeg2fmri_dist.normalise import to_volumes
from eeg2fmri_dist.ranks import Ranks
from eeg2fmri_dist.scores.metrics import paper_convention
from eeg2fmri_dist.scores.networks import Regions, regional_means
from eeg2fmri_dist.scores.temporal import detrend, temporal_correlation, temporal_std_ratio
from eeg2fmri_dist.training.agreement import share_objects
from eeg2fmri_dist.training.heartbeat import Heartbeat
from eeg2fmri_dist.training.objectives import Objective, TokenGeneration
from eeg2fmri_dist.training.prediction import predict_teacher_forced, predict_windows
from eeg2fmri_dist.training.preemption import StopRequest

_IMAGE_SCORES_EVERY = 10


@dataclass(frozen=True)
class Example:
    """What a validation saw of one recording, for pictures.

    Attributes
    ----------
    true, predicted : ndarray of shape (x, y, z)
        A volume, in stored units.
    true_regions, predicted_regions : ndarray of shape (volume, region)
        Detrended regional means.
    names : tuple of str
        Of the regions.
    tr_s : float
        Repetition time in s.
    """

    true: np.ndarray
    predicted: np.ndarray
    true_regions: np.ndarray
    predicted_regions: np.ndarray
    names: tuple[str, ...]
    tr_s: float


class Validator:
    """Scores the validation segments, shared out over ranks by segment.

    Parameters
    ----------
    train, validation : WindowData
        The first training segment is scored too, so that curves can be compared.
    regions : Regions
        For the temporal correlation of regional means.
    optimisation : OptimisationConfig
        Which score selects; how many windows are scored.
    ranks : Ranks
        This process among the others.
    device : torch.device
        Of the model.
    """

    def __init__(
        self,
        train: WindowData,
        validation: WindowData,
        regions: Regions,
        optimisation: OptimisationConfig,
        ranks: Ranks,
        device: torch.device,
    ):
        self._parts = {"train": (train, [0]), "validation": (validation, None)}
        self._regions, self._optimisation = regions, optimisation
        self._ranks, self._device = ranks, device
        self.example: Example | None = None

    def score(
        self, objective: Objective, stop: StopRequest, heartbeat: Heartbeat
    ) -> dict[str, float]:
        """Return mean scores by name, such as ``validation/loss`` (collective).

        Raises
        ------
        StopAskedError
            If a rank was asked to stop, after at most one recording.
        """
        scores = {}
        for part, (data, chosen) in self._parts.items():
            segments = list(range(len(data.lengths))) if chosen is None else chosen
            rows: list[dict[str, float]] = []
            for first in range(0, len(segments), self._ranks.world_size):
                own = segments[first : first + self._ranks.world_size][self._ranks.rank :][:1]
                rows += [self._score_segment(objective, data, segment) for segment in own]
                heartbeat.note_progress()
                stop.agree()
            gathered = [row for rank_rows in share_objects(rows) for row in rank_rows]
            for name in gathered[0]:
                scores[f"{part}/{name}"] = float(np.mean([row[name] for row in gathered]))
        return scores

    def selection_score(self, scores: dict[str, float]) -> float:
        """Return the number whose highest value is the best model."""
        if self._optimisation.select_by == "loss":
            return -scores["validation/loss"]
        return scores["validation/r_region"]

    def _score_segment(
        self, objective: Objective, data: WindowData, segment: int
    ) -> dict[str, float]:
        windows = data.tiling_windows(segment)[: self._optimisation.validation_windows]
        predicted = predict_windows(objective, data, windows, self._device)
        stop = len(predicted)
        normalised = data.segment_bold(segment, 0, stop)
        true = data.store.bold(data.segments[segment].start, data.segments[segment].start + stop)
        volumes = to_volumes(predicted, data.config, data.scaling)
        measured, series = self._series(data, true), self._series(data, volumes)
        self.example = Example(
            *(true[-1], volumes[-1], measured, series, self._regions.names),
            data.store.recordings[data.segments[segment].recording].tr_s,
        )
        scores = {"loss": self._error(objective, predicted, normalised)}
        scores |= self._image_scores(data, volumes, true)
        scores["r_region"] = float(temporal_correlation(series, measured).mean())
        scores["std_ratio"] = temporal_std_ratio(series, measured)
        if "eeg" in objective.predicts_from:
            scores["shuffled_gap"] = scores["r_region"] - self._r_shuffled(
                objective, data, segment, measured
            )
        if isinstance(objective, TokenGeneration):
            forced = predict_teacher_forced(objective, data, windows, self._device)
            scores["teacher_forced_loss"] = self._error(objective, forced, normalised)
        return scores

    def _error(self, objective: Objective, predicted: np.ndarray, true: np.ndarray) -> float:
        blocks = [
            objective.volume_error(
                torch.from_numpy(p[None]).to(self._device),
                torch.from_numpy(t[None]).to(self._device),
            ).item()
            for p, t in zip(predicted, np.array(true), strict=True)
        ]
        return float(np.mean(blocks))

    def _image_scores(
        self, data: WindowData, volumes: np.ndarray, true: np.ndarray
    ) -> dict[str, float]:
        scores = paper_convention(
            volumes[::_IMAGE_SCORES_EVERY],
            true[::_IMAGE_SCORES_EVERY],
            data.store.layout.mask,
            bold_mean=data.scaling.bold_mean,
            bold_std=data.scaling.bold_std,
        ).means
        return {"psnr_db": scores["psnr_paper_db"], "ssim": scores["ssim2d_paper"]}

    def _r_shuffled(
        self, objective: Objective, data: WindowData, segment: int, measured: np.ndarray
    ) -> float:
        """Temporal r with EEG from half a recording away; a model that ignores the EEG keeps it."""
        false = data.false_eeg(segment, shuffled_eeg)
        windows = false.tiling_windows()[: self._optimisation.validation_windows]
        predicted = predict_windows(objective, false, windows, self._device)
        series = self._series(data, to_volumes(predicted, data.config, data.scaling))
        return float(temporal_correlation(series, measured).mean())

    def _series(self, data: WindowData, volumes: np.ndarray) -> np.ndarray:
        """Detrended regional means (volume, region)."""
        means = regional_means(volumes, self._regions.labels, len(self._regions))
        return detrend(means, data.config.detrend_order)
