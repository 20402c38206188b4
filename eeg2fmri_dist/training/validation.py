"""Scores of validation subjects while a model trains: free-running, as at test time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from eeg2fmri_dist.config.train import OptimizationConfig
from eeg2fmri_dist.data.controls import shifted_eeg
from eeg2fmri_dist.data.normalization import to_volumes
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.inference.objectives import Objective, TokenGeneration
from eeg2fmri_dist.inference.predict import predict_teacher_forced, predict_windows
from eeg2fmri_dist.scores.metrics import paper_convention
from eeg2fmri_dist.scores.networks import Regions, regional_correlation, regional_series
from eeg2fmri_dist.scores.temporal import temporal_std_ratio
from eeg2fmri_dist.training.distributed.collectives import share_objects
from eeg2fmri_dist.training.distributed.session import Session

_IMAGE_SCORES_EVERY = 10
_VOLUMES_PER_BLOCK = 64


@dataclass(frozen=True)
class ValidationScores:
    """What one validation found.

    Attributes
    ----------
    means : dict of str to float
        Scores by name, such as ``validation/loss``: means over subjects of the mean over each
        one's recordings, as in a report.
    selection : float
        The number whose highest value is the best model.
    selection_by_subject : dict of str to float
        The same of each validation subject.
    """

    means: dict[str, float]
    selection: float
    selection_by_subject: dict[str, float]


def is_clear_gain(after: Mapping[str, float], before: Mapping[str, float], margin: float) -> bool:
    """Whether subjects gain, on average, more than a multiple of the gain's standard error.

    The one-standard-error rule of model selection (Hastie, Tibshirani and Friedman, The Elements
    of Statistical Learning, 7.10), on paired differences.

    Parameters
    ----------
    after, before : mapping of str to float
        Scores of the same subjects.
    margin : float
        How many standard errors. A single subject has none: there every gain is clear.

    Returns
    -------
    bool
    """
    gains = np.array([after[subject] - before[subject] for subject in before])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return bool(gains.mean() > margin * error)


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

    Scores of regions are those of a report: of volumes in stored units, by `regional_series`.
    With ``validation_windows`` they are the same scores of a recording's first volumes.

    Parameters
    ----------
    train, validation : WindowData
        The first training segment is scored too, so that curves can be compared.
    regions : Regions
        For the temporal correlation of regional means.
    optimization : OptimizationConfig
        Which score selects; how many windows are scored.
    session : Session
        Ranks, the model's device; the heartbeat is told of every recording.
    """

    def __init__(
        self,
        train: WindowData,
        validation: WindowData,
        regions: Regions,
        optimization: OptimizationConfig,
        session: Session,
    ):
        self._parts = {"train": (train, [0]), "validation": (validation, None)}
        self._regions, self._optimization = regions, optimization
        self._ranks, self._device = session.ranks, session.device
        self._stop, self._heartbeat = session.stop, session.heartbeat
        self._true_series: dict[Segment, np.ndarray] = {}
        self.example: Example | None = None

    def score(self, objective: Objective) -> ValidationScores:
        """Score both parts (collective).

        Returns
        -------
        ValidationScores
            The same on every rank, whatever their number.

        Raises
        ------
        StopAskedError
            If a rank was asked to stop, after at most one recording.
        """
        rows = {
            part: self._score_segments(objective, data, chosen)
            for part, (data, chosen) in self._parts.items()
        }
        by_subject = {part: self._by_subject(part, of_part) for part, of_part in rows.items()}
        means = {
            f"{part}/{name}": value
            for part, subjects in by_subject.items()
            for name, value in _mean_scores([*subjects.values()]).items()
        }
        selection_by_subject = {
            subject: self._selection(scores) for subject, scores in by_subject["validation"].items()
        }
        selection = self._selection(means, "validation/")
        return ValidationScores(means, selection, selection_by_subject)

    def _selection(self, scores: Mapping[str, float], prefix: str = "") -> float:
        by_loss = self._optimization.checkpoint_metric == "loss"
        return -scores[f"{prefix}loss"] if by_loss else scores[f"{prefix}r_region"]

    def _by_subject(self, part: str, rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
        """Average the segments' scores of each subject."""
        data, chosen = self._parts[part]
        of_subject = defaultdict(list)
        for number, row in zip(_numbers(data, chosen), rows, strict=True):
            recording = data.store.recordings[data.segments[number].recording]
            of_subject[recording.subject].append(row)
        return {subject: _mean_scores(found) for subject, found in of_subject.items()}

    def _score_segments(
        self,
        objective: Objective,
        data: WindowData,
        chosen: list[int] | None,
    ) -> list[dict[str, float]]:
        """Scores of each segment, in their order; each rank computes its own."""
        segments = _numbers(data, chosen)
        own: dict[int, dict[str, float]] = {}
        for first in range(0, len(segments), self._ranks.world_size):
            for segment in segments[first : first + self._ranks.world_size][self._ranks.rank :][:1]:
                own[segment] = self._score_segment(objective, data, segment)
            self._heartbeat.note_progress()
            self._stop.agree()
        gathered = {segment: row for part in share_objects(own) for segment, row in part.items()}
        return [gathered[segment] for segment in segments]

    def _score_segment(
        self, objective: Objective, data: WindowData, segment: int
    ) -> dict[str, float]:
        windows = data.tiling_windows(segment)[: self._optimization.validation_windows]
        predicted = predict_windows(objective, data, windows, self._device)
        normalized = data.segment_bold(segment, 0, len(predicted))
        measured = self._measured_series(data, segment, len(predicted))
        series = self._series(data, predicted)
        first = data.segments[segment].start
        last = first + len(predicted) - 1
        self.example = Example(
            data.store.bold(last, last + 1)[0],
            to_volumes(predicted[-1:], data.config, data.scaling)[0],
            *(measured, series, self._regions.names),
            data.store.recordings[data.segments[segment].recording].tr_s,
        )
        scores = {"loss": self._error(objective, predicted, normalized)}
        scores |= self._image_scores(data, first, predicted)
        scores["r_region"] = regional_correlation(series, measured)
        scores["std_ratio"] = temporal_std_ratio(series, measured)
        if "eeg" in objective.predicts_from:
            scores["shift_gap"] = scores["r_region"] - self._r_shifted(
                objective, data, segment, measured
            )
        if isinstance(objective, TokenGeneration):
            forced = predict_teacher_forced(objective, data, windows, self._device)
            scores["teacher_forced_loss"] = self._error(objective, forced, normalized)
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
        self, data: WindowData, first: int, predicted: np.ndarray
    ) -> dict[str, float]:
        """Scores of some of the volumes, of which the first is the store's sample `first`."""
        samples = range(first, first + len(predicted), _IMAGE_SCORES_EVERY)
        scores = paper_convention(
            to_volumes(predicted[::_IMAGE_SCORES_EVERY], data.config, data.scaling),
            np.concatenate([data.store.bold(sample, sample + 1) for sample in samples]),
            data.store.layout.mask,
            bold_mean=data.scaling.bold_mean,
            bold_std=data.scaling.bold_std,
        ).means
        return {"psnr_db": scores["psnr_zscore_db"], "ssim": scores["ssim2d_zscore"]}

    def _r_shifted(
        self, objective: Objective, data: WindowData, segment: int, measured: np.ndarray
    ) -> float:
        """Temporal r with EEG from half a recording away; a model that ignores the EEG keeps it."""
        false = data.false_eeg(segment, shifted_eeg)
        windows = false.tiling_windows()[: self._optimization.validation_windows]
        predicted = predict_windows(objective, false, windows, self._device)
        return regional_correlation(self._series(data, predicted), measured)

    def _series(self, data: WindowData, predicted: np.ndarray) -> np.ndarray:
        """Regional series (volume, region), in stored units, of normalized volumes."""
        blocks = (
            to_volumes(predicted[block], data.config, data.scaling)
            for block in _blocks(0, len(predicted))
        )
        return regional_series(blocks, self._regions)

    def _measured_series(self, data: WindowData, number: int, length: int) -> np.ndarray:
        """Regional series of the stored volumes; read once in a training, then kept."""
        segment = data.segments[number]
        if segment not in self._true_series:
            blocks = (
                data.store.bold(block.start, block.stop)
                for block in _blocks(segment.start, segment.start + length)
            )
            self._true_series[segment] = regional_series(blocks, self._regions)
        return self._true_series[segment]


def _numbers(data: WindowData, chosen: list[int] | None) -> list[int]:
    """Numbers of the segments that are scored; None = all."""
    return list(range(len(data.lengths))) if chosen is None else chosen


def _mean_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _blocks(start: int, stop: int) -> Iterator[slice]:
    """Slices of a few volumes each, which are in memory at a time."""
    for first in range(start, stop, _VOLUMES_PER_BLOCK):
        yield slice(first, min(first + _VOLUMES_PER_BLOCK, stop))
