"""The one question, whether a model uses the EEG, answered for each run.

Decided from the free-running region-wise r alone, because PSNR and SSIM of a constant image reach
what the field publishes. A model uses the EEG when (1) the prediction follows the truth beyond
circular shifts of itself, and (2) EEG from another time of the same recording makes it worse, by
an interval over subjects that excludes 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from eeg2fmri_dist.evaluation.results import RunSection, ScoreRow, gain
from eeg2fmri_dist.evaluation.significance import MIN_SUBJECTS, Interval

MAX_P = 0.05
CLEAR_R = 0.1
COLLAPSED_STD_RATIO = 0.1
WANDERING_STD_RATIO = 1.5
HIGH_TEACHER_FORCED_R = 0.2
COPIED_SHARE = 0.8
PSNR_MARGIN_DB, SSIM_MARGIN = 0.1, 0.005


class Finding(StrEnum):
    """What a run turned out to be."""

    USES_EEG = "uses the EEG"
    INVERTED = "follows the EEG with the wrong sign"
    COLLAPSED = "collapsed to one constant image"
    WANDERING = "wanders without following the EEG"
    COPIES_PAST = "copies the past"
    NOT_SHOWN = "does not use the EEG"
    INCONCLUSIVE = "in some subjects only"
    TOO_FEW = "too few subjects to tell"
    NOT_TESTED = "not tested with shuffled EEG"
    NO_EEG_INPUT = "takes no EEG"


ANSWERS = {
    Finding.USES_EEG: "Yes",
    Finding.INVERTED: "No",
    Finding.COLLAPSED: "No",
    Finding.WANDERING: "No",
    Finding.COPIES_PAST: "No",
    Finding.NOT_SHOWN: "No",
    Finding.INCONCLUSIVE: "Cannot tell",
    Finding.TOO_FEW: "Cannot tell",
    Finding.NOT_TESTED: "Cannot tell",
    Finding.NO_EEG_INPUT: "Not asked",
}


@dataclass(frozen=True)
class Verdict:
    """Answer for one run.

    Attributes
    ----------
    finding : Finding
        What the run turned out to be.
    sentence : str
        The numbers behind it.
    notes : tuple of str
        What else a reader should know, most important first.
    """

    finding: Finding
    sentence: str
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """``Yes``, ``No``, ``Cannot tell`` or ``Not asked``."""
        return ANSWERS[self.finding]


@dataclass(frozen=True)
class _Evidence:
    """Means over subjects of what the decision looks at."""

    r: Interval
    r_shuffled: Interval
    gain: Interval
    std_ratio: float
    p: float
    teacher: float | None
    teacher_shuffled: float | None

    @property
    def follows(self) -> bool:
        """Whether the prediction follows the truth beyond circular shifts of itself."""
        return self.p < MAX_P and self.r.mean > 0

    @property
    def depends_on_eeg(self) -> bool:
        """Whether shuffling the EEG costs it a good part of its r."""
        return self.r_shuffled.mean < COPIED_SHARE * self.r.mean

    @property
    def copies(self) -> bool:
        """Whether it scores with the true past whatever the EEG."""
        if self.teacher is None or self.teacher_shuffled is None:
            return False
        high = self.teacher >= HIGH_TEACHER_FORCED_R
        return high and self.teacher_shuffled >= COPIED_SHARE * self.teacher


def verdict(run: RunSection, baselines: Sequence[ScoreRow] = ()) -> Verdict:
    """Decide what a run turned out to be.

    Parameters
    ----------
    run : RunSection
        Its ``free`` and ``shuffled`` rows carry the decision; ``teacher_forced`` and
        ``teacher_forced_shuffled`` tell a copier.
    baselines : sequence of ScoreRow
        ``training_mean`` and ``ridge`` are compared with, where they are given.

    Returns
    -------
    Verdict
    """
    free, shuffled = run.row("free"), run.row("shuffled")
    if free is None:
        return Verdict(
            Finding.NO_EEG_INPUT, "It gives back the volumes that it sees; EEG plays no part in it."
        )
    by_name = {row.name: row for row in baselines}
    notes = _against_mean_image(free, by_name)
    if run.model != "ridge":
        notes += _against_ridge(free, by_name)
    if shuffled is None or free.p_value is None:
        return Verdict(
            Finding.NOT_TESTED,
            f"r {free.interval('r_region').mean:.2f}, but it was not scored with shuffled EEG and "
            "circular shifts.",
            tuple(notes),
        )
    evidence = _Evidence(
        r=free.interval("r_region"),
        r_shuffled=shuffled.interval("r_region"),
        gain=gain(free, shuffled),
        std_ratio=free.interval("std_ratio").mean,
        p=free.p_value,
        teacher=_mean_r(run.row("teacher_forced")),
        teacher_shuffled=_mean_r(run.row("teacher_forced_shuffled")),
    )
    finding = _decide(evidence)
    notes = [*_symptoms(finding, evidence), *notes]
    return Verdict(
        finding, _typeset(_explain(finding, evidence)), tuple(_typeset(note) for note in notes)
    )


def _decide(evidence: _Evidence) -> Finding:
    enough = evidence.gain.n >= MIN_SUBJECTS
    promising = evidence.follows and evidence.depends_on_eeg
    if evidence.follows and enough and evidence.gain.low > 0:
        return Finding.USES_EEG
    if promising and evidence.r.mean >= CLEAR_R:
        return Finding.INCONCLUSIVE if enough else Finding.TOO_FEW
    if evidence.std_ratio < COLLAPSED_STD_RATIO:
        return Finding.COLLAPSED
    if evidence.copies:
        return Finding.COPIES_PAST
    if evidence.std_ratio > WANDERING_STD_RATIO:
        return Finding.WANDERING
    if not enough:
        return Finding.TOO_FEW
    if _is_inverted(evidence):
        return Finding.INVERTED
    return Finding.INCONCLUSIVE if promising else Finding.NOT_SHOWN


def _is_inverted(evidence: _Evidence) -> bool:
    return evidence.gain.high < 0 and evidence.r.high < 0


def _explain(finding: Finding, evidence: _Evidence) -> str:
    r, shuffled, difference = evidence.r, evidence.r_shuffled, evidence.gain
    numbers = (
        f"r {r.mean:.2f} with the true EEG, {shuffled.mean:.2f} with shuffled EEG "
        f"({_interval_text(difference)}; {_p_text(evidence.p)})"
    )
    sentences = {
        Finding.USES_EEG: f"Shuffling the EEG costs it its score: {numbers}.",
        Finding.INVERTED: f"It moves against the truth: {numbers}.",
        Finding.COLLAPSED: f"It emits one constant image, whatever the EEG "
        f"(its changes over time are {evidence.std_ratio:.2f} of the true ones): {numbers}.",
        Finding.WANDERING: f"It changes {evidence.std_ratio:.1f} times as much as the truth, but "
        f"not with it: {numbers}.",
        Finding.COPIES_PAST: f"It repeats past volumes when it is given them (r "
        f"{evidence.teacher or 0:.2f}, with shuffled EEG {evidence.teacher_shuffled or 0:.2f}) and "
        f"has little without them: {numbers}.",
        Finding.NOT_SHOWN: f"No sign of it: {numbers}.",
        Finding.INCONCLUSIVE: "The predictions follow the truth, but shuffling the EEG does not "
        f"cost it in every subject: {numbers}.",
        Finding.TOO_FEW: _few_subjects_text(evidence, numbers),
    }
    return sentences[finding]


def _few_subjects_text(evidence: _Evidence, numbers: str) -> str:
    n = evidence.gain.n
    subjects = "One subject is" if n == 1 else f"{n} subjects are"
    uses_here = evidence.follows and evidence.depends_on_eeg
    sign = "It does so here" if uses_here else "No sign of it here"
    return f"{sign}: {numbers}. {subjects} too few to say it of others."


def _symptoms(finding: Finding, evidence: _Evidence) -> list[str]:
    """What is wrong beside the finding itself."""
    notes = []
    if finding is Finding.USES_EEG and not evidence.depends_on_eeg:
        notes.append("Most of its r stays when the EEG is shuffled: something else carries it.")
    if evidence.copies and finding is not Finding.COPIES_PAST:
        notes.append(
            f"Given the true past it reaches r {evidence.teacher:.2f}, with shuffled EEG "
            f"{evidence.teacher_shuffled:.2f}: that score is copied from the past."
        )
    if evidence.std_ratio < COLLAPSED_STD_RATIO and finding is not Finding.COLLAPSED:
        notes.append(f"Its changes are only {evidence.std_ratio:.2f} of the true size.")
    if evidence.std_ratio > WANDERING_STD_RATIO and finding is not Finding.WANDERING:
        notes.append(f"Its changes are {evidence.std_ratio:.1f} times too large.")
    return notes


def _against_mean_image(free: ScoreRow, baselines: dict[str, ScoreRow]) -> list[str]:
    mean_image = baselines.get("training_mean")
    if mean_image is None:
        return []
    psnr, psnr_mean = (row.interval("psnr_peer_db").mean for row in (free, mean_image))
    ssim, ssim_mean = (row.interval("ssim2d_peer").mean for row in (free, mean_image))
    if psnr > psnr_mean + PSNR_MARGIN_DB or ssim > ssim_mean + SSIM_MARGIN:
        return []
    return [
        f"Its PSNR and SSIM ({psnr:.1f} dB, {ssim:.3f}) are no better than those of one constant "
        f"image, the training mean ({psnr_mean:.1f} dB, {ssim_mean:.3f})."
    ]


def _against_ridge(free: ScoreRow, baselines: dict[str, ScoreRow]) -> list[str]:
    ridge = baselines.get("ridge")
    if ridge is None:
        return []
    difference = gain(free, ridge)
    word = "It beats" if difference.low > 0 else "It does not beat"
    if difference.high < 0:
        word = "It is worse than"
    if not difference.known:
        word = "Beside it:"
    return [
        f"{word} ridge regression on the same EEG (r {ridge.interval('r_region').mean:.2f}; "
        f"{_interval_text(difference)})."
    ]


def _mean_r(row: ScoreRow | None) -> float | None:
    return None if row is None else row.interval("r_region").mean


def _interval_text(difference: Interval) -> str:
    text = f"difference {difference.mean:+.2f}"
    if difference.known:
        text += f", 95 % interval {difference.low:+.2f} to {difference.high:+.2f}"
    return text


def _p_text(p: float) -> str:
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.3f}"


def _typeset(text: str) -> str:
    """Minus signs in place of hyphens before digits, and none before zero."""
    text = re.sub(r"-(0\.0+)(?!\d)", r"\1", text)
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)
