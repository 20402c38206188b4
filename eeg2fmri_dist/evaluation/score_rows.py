"""Scores: what each is called and means, one row of them over subjects, and comparisons of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eeg2fmri_dist.evaluation.reference_baselines import BASELINES
from eeg2fmri_dist.evaluation.significance import (
    Interval,
    RegionTest,
    sign_flip_test,
    subject_interval,
)
from eeg2fmri_dist.scores.catalog import SCORES

VARIANTS = {
    "eeg_only": ("True EEG", "free-running: the model gets EEG and no fMRI"),
    "shifted": ("Shifted EEG", "free-running, EEG from half a recording away"),
    "other_subject": ("Another's EEG", "free-running, EEG of another test subject"),
    "zero": ("Zero EEG", "free-running, every EEG feature at its average"),
    "teacher_forced": (
        "Given true past",
        "teacher-forced: the model also sees the true past volumes",
    ),
    "teacher_forced_shifted": (
        "True past, circularly shifted EEG",
        "teacher-forced, EEG from half a recording away",
    ),
    "reconstruction": ("Reconstruction", "the model sees the volume itself and gives it back"),
}


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one way to predict: a model with some input, or a baseline.

    Attributes
    ----------
    name : str
        Key of `VARIANTS` or of `baselines.BASELINES`.
    subjects : mapping of str to mapping of str to float
        Subject -> score name -> value.
    p_value : float or None
        Of ``r_region``, from circular shifts.
    regions : RegionTest or None
        The same for each region.
    regional : mapping of str to tuple of float
        Subject -> r of each region.
    volumes : sequence of tuple of str and mapping of str to ndarray of shape (volume,)
        Subject of each recording, and the scores of its volumes (`metrics.RecordingScores`).
    """

    name: str
    subjects: Mapping[str, Mapping[str, float]]
    p_value: float | None = None
    regions: RegionTest | None = None
    regional: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    volumes: Sequence[tuple[str, Mapping[str, np.ndarray]]] = ()

    @classmethod
    def from_recordings(
        cls,
        name: str,
        recordings: Iterable[tuple[str, Mapping[str, float]]],
        p_value: float | None = None,
    ) -> ScoreRow:
        """Average the recordings of each subject: (subject, scores) pairs -> one row."""
        by_subject: dict[str, list[Mapping[str, float]]] = defaultdict(list)
        for subject, scores in recordings:
            by_subject[subject].append(scores)
        means = {
            subject: {key: float(np.mean([scores[key] for scores in runs])) for key in runs[0]}
            for subject, runs in by_subject.items()
        }
        return cls(name, means, p_value)

    def with_scores(self, recordings: Iterable[tuple[str, Mapping[str, float]]]) -> ScoreRow:
        """Add scores, averaged over the recordings of each subject: (subject, scores) pairs."""
        added = ScoreRow.from_recordings(self.name, recordings).subjects
        subjects = {
            subject: {**scores, **added.get(subject, {})}
            for subject, scores in self.subjects.items()
        }
        return replace(self, subjects=subjects)

    @property
    def label(self) -> str:
        """Name for people."""
        if self.name in VARIANTS:
            return VARIANTS[self.name][0]
        return BASELINES[self.name].label if self.name in BASELINES else self.name

    @property
    def meaning(self) -> str:
        """What it predicts from, in words."""
        if self.name in VARIANTS:
            return VARIANTS[self.name][1]
        return BASELINES[self.name].meaning if self.name in BASELINES else ""

    @property
    def oracle(self) -> bool:
        """Whether it sees the BOLD that it should predict."""
        return self.name in BASELINES and BASELINES[self.name].oracle

    def values(self, score: str) -> dict[str, float]:
        """Return subject -> value, where there is one."""
        return {
            subject: scores[score] for subject, scores in self.subjects.items() if score in scores
        }

    def interval(self, score: str) -> Interval:
        """Return mean and confidence interval over subjects."""
        return score_interval(score, list(self.values(score).values()))


def score_interval(score: str, values: Sequence[float]) -> Interval:
    """Return mean and confidence interval of a score over subjects, on the scale of the score."""
    return subject_interval(values, scale=SCORES[score].scale if score in SCORES else "linear")


def gain(row: ScoreRow, other: ScoreRow, score: str = "r_region") -> Interval:
    """Interval over subjects of the paired difference ``row - other``; subjects in both."""
    own, others = row.values(score), other.values(score)
    return subject_interval(
        [own[subject] - others[subject] for subject in own if subject in others]
    )


def regional_gain(row: ScoreRow, other: ScoreRow) -> RegionTest | None:
    """Test over subjects, for each region, whether a row's r is above another's.

    None where r of each region is not known for two subjects or more.
    """
    subjects = [subject for subject in row.regional if subject in other.regional]
    if len(subjects) < 2:
        return None
    pairs = [(row.regional[subject], other.regional[subject]) for subject in subjects]
    return sign_flip_test(np.array([np.subtract(own, others) for own, others in pairs]))
