"""What the runs of a report are scored on: recordings of subjects that they have never seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import Scaling, fit_scaling
from eeg2fmri_dist.data.splits import Segment, Split, make_split
from eeg2fmri_dist.errors import CheckpointError, ConfigError
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.significance import (
    circular_shift_p,
    compare_regions,
    regional_shift_correlations,
)
from eeg2fmri_dist.evaluation.timing import best_lag
from eeg2fmri_dist.files.run_folder import load_run_config
from eeg2fmri_dist.inference.model_file import ModelCard, TrainedModel
from eeg2fmri_dist.scores.metrics import RecordingScores, score_recording
from eeg2fmri_dist.scores.networks import Regions, correlation_matrix, identified, regional_series
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.store_facts import store_regions

logger = logging.getLogger(__name__)

_SCALE = DataConfig()  # reference image and mean of BOLD are the same in all recipes


@dataclass(frozen=True)
class ScoredRecording:
    """One recording that is scored.

    Attributes
    ----------
    subject : str
        Who.
    segment : Segment
        Its samples in the store.
    power : ndarray of shape (volume, channel, frequency)
        EEG features as stored.
    true : ndarray of shape (volume, x, y, z)
        BOLD as stored.
    true_regions : ndarray of shape (volume, region)
        Detrended regional means.
    """

    subject: str
    segment: Segment
    power: np.ndarray
    true: np.ndarray
    true_regions: np.ndarray


@dataclass(frozen=True)
class Scope:
    """What of a split is scored, and how finely.

    Attributes
    ----------
    subjects : str
        ``test`` or ``validation``.
    max_volumes : int or None
        Only so many first volumes of each recording; None = all.
    ssim_every : int
        SSIM is computed on every n-th volume.
    """

    subjects: Literal["test", "validation"] = "test"
    max_volumes: int | None = None
    ssim_every: int = 5


@dataclass(frozen=True)
class ScoredSet:
    """What all runs of a report are scored on."""

    store: Store
    split: Split
    scaling: Scaling
    regions: Regions
    recordings: tuple[ScoredRecording, ...]
    ssim_every: int

    def row(self, name: str, predict: Callable[[ScoredRecording], np.ndarray]) -> ScoreRow:
        """Score one way to predict on every recording."""

        def score(recording: ScoredRecording) -> tuple[RecordingScores, np.ndarray, np.ndarray]:
            predicted = np.asarray(predict(recording), dtype=np.float32)
            series = self.regional_series(predicted)
            shifts = regional_shift_correlations(series, recording.true_regions)
            lag_trs, r_at_lag = best_lag(shifts.mean(axis=1))
            found = self._score(predicted, recording)
            found.means.update(lag_trs=float(lag_trs), r_at_lag=r_at_lag)
            return found, shifts, correlation_matrix(series)

        # Scores are numpy on large arrays, which lets go of the interpreter lock; one recording a
        # thread is twice as fast as threads inside each small product.
        workers = torch.get_num_threads()
        with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(score, self.recordings))
        subjects = [recording.subject for recording in self.recordings]
        scores, shifts, matrices = zip(*results, strict=True)
        p_value = circular_shift_p([curves.mean(axis=1) for curves in shifts])
        means = [recording.means for recording in scores]
        row = ScoreRow.from_recordings(name, zip(subjects, means, strict=True), p_value)
        row = replace(
            row,
            regions=compare_regions(shifts),
            regional=_by_subject(subjects, [curves[0] for curves in shifts]),
            volumes=[
                (subject, recording.volumes)
                for subject, recording in zip(subjects, scores, strict=True)
            ],
        )
        if len(subjects) > 1:
            found = identified(matrices, self._true_matrices())
            row = row.with_scores(
                (subject, {"identification_accuracy": float(hit)})
                for subject, hit in zip(subjects, found, strict=True)
            )
        logger.info("  %-24s r of regions %6.3f", name, row.interval("r_region").mean)
        return row

    def regional_series(self, volumes: np.ndarray) -> np.ndarray:
        """Return detrended regional means, (volume, region)."""
        return regional_series([volumes], self.regions)

    def _true_matrices(self) -> list[np.ndarray]:
        return [correlation_matrix(recording.true_regions) for recording in self.recordings]

    def _score(self, predicted: np.ndarray, recording: ScoredRecording) -> RecordingScores:
        return score_recording(
            predicted,
            recording.true,
            self.store.layout.mask,
            self.regions,
            bold_mean=self.scaling.bold_mean,
            bold_std=self.scaling.bold_std,
            ssim_every=self.ssim_every,
        )


def _by_subject(
    subjects: Sequence[str], regional: Sequence[np.ndarray]
) -> dict[str, tuple[float, ...]]:
    """Average r of each region over a subject's recordings."""
    found: dict[str, list[np.ndarray]] = {}
    for subject, r in zip(subjects, regional, strict=True):
        found.setdefault(subject, []).append(r)
    return {subject: tuple(np.mean(runs, axis=0).tolist()) for subject, runs in found.items()}


def load_scored_set(runs: Sequence[tuple[Path, TrainedModel]], scope: Scope = Scope()) -> ScoredSet:
    """Read the recordings that are scored; refuse runs that cannot be compared.

    Parameters
    ----------
    runs : sequence of (Path, TrainedModel)
        Run folders and their models.
    scope : Scope
        What of the split is scored.

    Raises
    ------
    CheckpointError
        If a run is of another store, or was trained on who is scored.
    ConfigError
        If the runs have different splits.
    """
    configs = [load_run_config(path) for path, _ in runs]
    store, split_config = Store(configs[0].store), configs[0].split
    for (path, trained), run_config in zip(runs, configs, strict=True):
        if trained.card.store_fingerprint != store.fingerprint:
            raise CheckpointError(
                f"the run was trained on another store than {store.path} "
                f"({_store_difference(trained.card, store)})",
                where=path,
                remedy="restore the store it was trained on, or train again",
            )
        if run_config.split != split_config:
            raise ConfigError(
                f"the run has another split than {runs[0][0]}",
                where=path,
                remedy="evaluate runs with different splits one by one",
            )
    split = make_split(store.recordings, split_config)
    scored_set = read_scored_set(store, split, scope)
    for path, trained in runs:
        require_unseen(path, trained, scored_set)
    return scored_set


def require_unseen(path: Path, trained: TrainedModel, scored_set: ScoredSet) -> None:
    """Refuse a model that was trained on, or scaled by, who is scored."""
    if scored_set.split.leaks:
        return
    known = set(trained.card.subjects["train"])
    both = known & {recording.subject for recording in scored_set.recordings}
    if both:
        raise CheckpointError(
            f"was trained on {', '.join(sorted(both))}, who are scored",
            where=path,
            remedy="train again with this split",
        )
    own, here = trained.scaling, scored_set.scaling
    if not np.allclose([own.bold_mean, own.bold_std], [here.bold_mean, here.bold_std], rtol=1e-3):
        raise CheckpointError(
            "its scale was not fitted on the training subjects of its split (mean and deviation "
            f"of BOLD {own.bold_mean:.4g}, {own.bold_std:.4g}; theirs are {here.bold_mean:.4g}, "
            f"{here.bold_std:.4g})",
            where=path,
            remedy="train again",
        )


def read_scored_set(store: Store, split: Split, scope: Scope = Scope()) -> ScoredSet:
    """Read the recordings of the part that is scored, and what training recordings tell."""
    regions = store_regions(store)
    chosen = [_shorten(segment, scope.max_volumes) for segment in split.part(scope.subjects)]
    return ScoredSet(
        store=store,
        split=split,
        scaling=fit_scaling(store, split.train, _SCALE),
        regions=regions,
        recordings=tuple(load_recording(store, segment, regions) for segment in chosen),
        ssim_every=scope.ssim_every,
    )


def _store_difference(card: ModelCard, store: Store) -> str:
    here = store.layout.channel_names
    missing = [name for name in card.channel_names if name not in here]
    if missing:
        return f"it has no EEG channel {', '.join(missing)}"
    unknown = [name for name in here if name not in card.channel_names]
    if unknown:
        return f"the model knows no EEG channel {', '.join(unknown)}"
    return f"fingerprint {card.store_fingerprint[:12]} then, {store.fingerprint[:12]} now"


def load_recording(store: Store, segment: Segment, regions: Regions) -> ScoredRecording:
    """Read a recording and its regional means."""
    true = store.bold(segment.start, segment.stop)
    return ScoredRecording(
        subject=store.recordings[segment.recording].subject,
        segment=segment,
        power=store.eeg(segment.start, segment.stop),
        true=true,
        true_regions=regional_series([true], regions),
    )


def _shorten(segment: Segment, max_volumes: int | None) -> Segment:
    if max_volumes is None:
        return segment
    return replace(segment, stop=min(segment.stop, segment.start + max_volumes))
