"""Scores: what each is called and means, one row of them over subjects, and comparisons of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eeg2fmri_dist.evaluation.baselines import BASELINES
from eeg2fmri_dist.evaluation.significance import (
    Interval,
    RegionTest,
    Scale,
    sign_flip_test,
    subject_interval,
)

VARIANTS = {
    "free": ("True EEG", "free-running: the model gets EEG and no fMRI"),
    "shuffled": ("Shuffled EEG", "free-running, EEG from half a recording away"),
    "other_subject": ("Another's EEG", "free-running, EEG of another test subject"),
    "zero": ("Zero EEG", "free-running, every EEG feature at its average"),
    "teacher_forced": (
        "Given true past",
        "teacher-forced: the model also sees the true past volumes",
    ),
    "teacher_forced_shuffled": (
        "True past, shuffled EEG",
        "teacher-forced, EEG from half a recording away",
    ),
    "reconstruction": ("Reconstruction", "the model sees the volume itself and gives it back"),
}


@dataclass(frozen=True)
class Score:
    """How a score is shown and what it means.

    Attributes
    ----------
    label, unit : str
        For tables and charts.
    meaning : str
        One sentence, with data range, mask and dimensionality.
    digits : int
        Decimals shown.
    scale : {"linear", "log"}
        Of its intervals; ``log`` where it cannot be negative.
    """

    label: str
    unit: str
    meaning: str
    digits: int = 2
    scale: Scale = "linear"


_PAPER = "volumes z-scored with the training mean and deviation, data range max − min of the truth"
_PEER = "each volume scaled to [0,\u00a01] by its own minimum and maximum, data range 1"
SCORES = {
    "r_region": Score(
        "r, regions",
        "",
        "Pearson correlation over time of each region's mean BOLD with the truth, mean over "
        "regions. 0 = no relation in time, 1 = perfect. The headline.",
    ),
    "explained": Score(
        "of explainable",
        "%",
        "Share of the variance that can be explained at all: r of regions as a share of the r of "
        "the noise-free BOLD that the EEG shows, squared, sign kept. Simulated data only.",
        0,
    ),
    "r_specific": Score(
        "r, regions, without global signal",
        "",
        "The same after the mean over regions has been regressed out of prediction and truth. "
        "Breathing, movement and vigilance reach BOLD and EEG alike, in the whole brain at once: a "
        "score that is gone here may be theirs.",
    ),
    "r_voxel": Score(
        "r, voxels",
        "",
        "The same for every brain voxel, mean over voxels; constant voxels count 0.",
    ),
    "ev_region": Score(
        "EV, regions",
        "",
        "Explained variance over time of regional means, mean over regions: the amplitude counts. "
        "0 = no better than a constant image, below 0 = worse, 1 = perfect.",
    ),
    "ev_voxel": Score(
        "EV, voxels",
        "",
        "The same for every brain voxel, mean over voxels.",
    ),
    "std_ratio": Score(
        "s.d. ratio",
        "",
        "Temporal standard deviation of regional means, prediction / truth. Near 0 = one constant "
        "image; above 1.5 = it wanders.",
        scale="log",
    ),
    "fc_similarity": Score(
        "FC similarity",
        "",
        "Correlation of the upper triangles of predicted and true region-by-region correlation "
        "matrices (functional connectivity).",
    ),
    "fc_distance": Score(
        "FC distance",
        "",
        "Affine-invariant distance of the two matrices (shrunk by 0.1 towards the identity), "
        "divided by the root of the number of regions. 0 = equal.",
        scale="log",
    ),
    "identified": Score(
        "Identified",
        "",
        "Share of recordings whose predicted correlation matrix is most similar to their own true "
        "one, of all that are scored; by chance 1 / recordings.",
        scale="log",
    ),
    "coherence": Score(
        "Coherence",
        "",
        "Magnitude-squared coherence of regional means over frequencies, Welch windows of up to 32 "
        "volumes. Forgives delay and sign; unrelated series have about 1 / windows.",
    ),
    "lag_trs": Score(
        "Lag",
        "TR",
        "By how many TRs the prediction comes late (negative: early): where r of regions is "
        "highest, within 5.",
        1,
    ),
    "r_at_lag": Score("r at that lag", "", "r of regions of the prediction moved back by its lag."),
    "future_share": Score(
        "Later EEG",
        "",
        "Change of volumes when EEG recorded after them is replaced, as a share of their change "
        "when all EEG is replaced. 0 = causal.",
        scale="log",
    ),
    "psnr_paper_db": Score("PSNR, paper", "dB", f"Whole grid; {_PAPER}.", 1),
    "psnr_paper_masked_db": Score("PSNR, paper, brain", "dB", f"Brain voxels; {_PAPER}.", 1),
    "psnr_peer_db": Score("PSNR, [0,\u00a01]", "dB", f"Whole grid; {_PEER}.", 1),
    "psnr_peer_masked_db": Score("PSNR, [0,\u00a01], brain", "dB", f"Brain voxels; {_PEER}.", 1),
    "ssim2d_paper": Score("SSIM 2-D, paper", "", f"Axial slices, whole grid; {_PAPER}.", 3),
    "ssim2d_paper_masked": Score("SSIM 2-D, paper, brain", "", f"Brain voxels; {_PAPER}.", 3),
    "ssim2d_peer": Score("SSIM 2-D, [0,\u00a01]", "", f"Axial slices, whole grid; {_PEER}.", 3),
    "ssim2d_peer_masked": Score("SSIM 2-D, [0,\u00a01], brain", "", f"Brain voxels; {_PEER}.", 3),
    "ssim3d_paper": Score("SSIM 3-D, paper", "", f"3-D window, whole grid; {_PAPER}.", 3),
    "ssim3d_paper_masked": Score("SSIM 3-D, paper, brain", "", f"3-D window, brain; {_PAPER}.", 3),
    "ssim3d_peer": Score("SSIM 3-D, [0,\u00a01]", "", f"3-D window, whole grid; {_PEER}.", 3),
    "ssim3d_peer_masked": Score(
        "SSIM 3-D, [0,\u00a01], brain", "", f"3-D window, brain; {_PEER}.", 3
    ),
    "rmse_paper": Score("RMSE, paper", "", f"Whole grid; {_PAPER}.", 4, "log"),
    "rmse_paper_masked": Score("RMSE, paper, brain", "", f"Brain voxels; {_PAPER}.", 4, "log"),
    "mse_paper": Score("MSE, paper", "", f"Whole grid; {_PAPER}.", 4, "log"),
    "mse_paper_masked": Score("MSE, paper, brain", "", f"Brain voxels; {_PAPER}.", 4, "log"),
    "mse_peer": Score("MSE, [0,\u00a01]", "", f"Whole grid; {_PEER}.", 4, "log"),
    "mse_peer_masked": Score("MSE, [0,\u00a01], brain", "", f"Brain voxels; {_PEER}.", 4, "log"),
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
