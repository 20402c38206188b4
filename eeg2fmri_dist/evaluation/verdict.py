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

from eeg2fmri_dist.evaluation.evidence import PSNR_MARGIN_DB, Evidence, gather_evidence
from eeg2fmri_dist.evaluation.results import RunSection
from eeg2fmri_dist.evaluation.score_rows import ScoreRow, gain
from eeg2fmri_dist.evaluation.significance import MIN_SUBJECTS, Interval

CLEAR_R = 0.1
NEARLY_PERFECT_R = 0.98
COLLAPSED_STD_RATIO = 0.1
WANDERING_STD_RATIO = 1.5
ANOTHERS_SHARE = 0.5
SSIM_MARGIN = 0.005


class Finding(StrEnum):
    """What a run turned out to be."""

    USES_EEG = "uses the EEG"
    SEES_FUTURE = "uses the EEG, but also EEG that is recorded later"
    GLOBAL_SIGNAL = "uses the EEG, but predicts the global signal alone"
    INVERTED = "follows the EEG with the wrong sign"
    COLLAPSED = "collapsed to one constant image"
    WANDERING = "wanders without following the EEG"
    KNOWS_SUBJECT = "has learned the subject and nothing that changes"
    COPIES_PAST = "copies the past"
    COPIES_FUTURE = "copies volumes that are still to come"
    WITHOUT_EEG = "follows the truth, but not because of the EEG"
    NOT_SHOWN = "does not use the EEG"
    INCONCLUSIVE = "in some subjects only"
    TOO_FEW = "too few subjects to tell"
    NOT_TESTED = "not tested with circularly shifted EEG"
    NO_EEG_INPUT = "takes no EEG"


ANSWERS = {
    Finding.USES_EEG: "Yes",
    Finding.SEES_FUTURE: "Yes, but",
    Finding.GLOBAL_SIGNAL: "Yes, but",
    Finding.INVERTED: "No",
    Finding.COLLAPSED: "No",
    Finding.WANDERING: "No",
    Finding.KNOWS_SUBJECT: "No",
    Finding.COPIES_PAST: "No",
    Finding.COPIES_FUTURE: "No",
    Finding.WITHOUT_EEG: "No",
    Finding.NOT_SHOWN: "No",
    Finding.INCONCLUSIVE: "Cannot tell",
    Finding.TOO_FEW: "Cannot tell",
    Finding.NOT_TESTED: "Cannot tell",
    Finding.NO_EEG_INPUT: "Not asked",
}

CONSTANT = (Finding.COLLAPSED, Finding.KNOWS_SUBJECT)
TRUTH_FROM_ELSEWHERE = (Finding.COPIES_PAST, Finding.COPIES_FUTURE, Finding.WITHOUT_EEG)
ANSWERED_YES = (Finding.USES_EEG, Finding.SEES_FUTURE, Finding.GLOBAL_SIGNAL)


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
        """``Yes``, ``Yes, but``, ``No``, ``Cannot tell`` or ``Not asked``."""
        return ANSWERS[self.finding]


def verdict(run: RunSection, baselines: Sequence[ScoreRow] = ()) -> Verdict:
    """Decide what a run turned out to be.

    Parameters
    ----------
    run : RunSection
        Its ``eeg_only`` and ``shifted`` rows carry the decision; ``teacher_forced`` and
        ``teacher_forced_shifted`` tell a copier.
    baselines : sequence of ScoreRow
        ``training_mean``, ``subject_mean`` and ``ridge`` are compared with, where they are given.

    Returns
    -------
    Verdict
    """
    eeg_only, shifted = run.row("eeg_only"), run.row("shifted")
    if eeg_only is None:
        return Verdict(
            Finding.NO_EEG_INPUT, "It gives back the volumes that it sees; EEG plays no part in it."
        )
    by_name = {row.name: row for row in baselines}
    explained = _against_ceiling(eeg_only, by_name)
    notes = [*_in_regions(eeg_only), *_against_mean_image(eeg_only, by_name)]
    if run.model != "ridge":
        notes += [*_against_ridge(eeg_only, by_name), *_at_its_start(run)]
    if shifted is None or eeg_only.p_value is None:
        return Verdict(
            Finding.NOT_TESTED,
            f"r {eeg_only.interval('r_region').mean:.2f}, but it was not scored with circularly "
            "shifted EEG and against circular shifts of itself.",
            tuple(notes),
        )
    evidence = gather_evidence(run, by_name)
    finding = _decide(evidence)
    notes = [
        *(explained if finding not in TRUTH_FROM_ELSEWHERE else ()),
        *_symptoms(finding, evidence),
        *_suspicions(finding, evidence),
        *notes,
    ]
    return Verdict(
        finding, _typeset(_explain(finding, evidence)), tuple(_typeset(note) for note in notes)
    )


def _decide(evidence: Evidence) -> Finding:
    enough = evidence.gain.n >= MIN_SUBJECTS
    promising = evidence.follows and evidence.depends_on_eeg
    if evidence.follows and enough and evidence.gain.low > 0:
        return _how_it_uses_eeg(evidence)
    if promising and evidence.r.mean >= CLEAR_R:
        return Finding.INCONCLUSIVE if enough else Finding.TOO_FEW
    if evidence.std_ratio < COLLAPSED_STD_RATIO:
        return Finding.KNOWS_SUBJECT if evidence.knows_subject else Finding.COLLAPSED
    if evidence.copies:
        return Finding.COPIES_PAST
    if evidence.repeats_volumes:
        return Finding.COPIES_PAST if evidence.lag_trs > 0 else Finding.COPIES_FUTURE
    if evidence.follows and not evidence.depends_on_eeg and evidence.r.mean >= CLEAR_R:
        return Finding.WITHOUT_EEG
    if evidence.inverted:
        return Finding.INVERTED
    if evidence.std_ratio > WANDERING_STD_RATIO:
        return Finding.WANDERING
    if not enough:
        return Finding.TOO_FEW
    return Finding.INCONCLUSIVE if promising else Finding.NOT_SHOWN


def _how_it_uses_eeg(evidence: Evidence) -> Finding:
    if evidence.sees_future:
        return Finding.SEES_FUTURE
    return Finding.GLOBAL_SIGNAL if evidence.is_global else Finding.USES_EEG


def _explain(finding: Finding, evidence: Evidence) -> str:
    r, shifted, difference = evidence.r, evidence.r_shifted, evidence.gain
    numbers = (
        f"r {r.mean:.2f} with the true EEG, {shifted.mean:.2f} with circularly shifted EEG "
        f"({_interval_text(difference)}; {_p_text(evidence.p)})"
    )
    sentences = {
        Finding.USES_EEG: f"Shifting the EEG costs it its score: {numbers}.",
        Finding.SEES_FUTURE: f"Shifting the EEG costs it its score: {numbers}. But "
        f"{_later_text(evidence)}.",
        Finding.GLOBAL_SIGNAL: f"Shifting the EEG costs it its score: {numbers}. But "
        f"{_global_text(evidence)}.",
        Finding.INVERTED: f"It moves against the truth, as with a flipped sign: {numbers}. Turned "
        f"round it would reach r {-r.mean:.2f}.",
        Finding.COLLAPSED: f"It emits one constant image, whatever the EEG "
        f"(its changes over time are {evidence.std_ratio:.2f} of the true ones): {numbers}.",
        Finding.KNOWS_SUBJECT: f"It emits each subject's own image, whatever the EEG (its "
        f"changes over time are {evidence.std_ratio:.2f} of the true ones): {numbers}. "
        f"{_anatomy(evidence)}",
        Finding.WANDERING: f"It changes {evidence.std_ratio:.1f} times as much as the truth, but "
        f"not with it: {numbers}.",
        Finding.COPIES_PAST: _copy_text(evidence, numbers),
        Finding.COPIES_FUTURE: _copy_text(evidence, numbers),
        Finding.WITHOUT_EEG: f"EEG from another time costs it next to nothing: {numbers}. "
        "Something else tells it the truth: look for BOLD among its inputs, or for what all "
        "recordings share.",
        Finding.NOT_SHOWN: f"No sign of it: {numbers}.",
        Finding.INCONCLUSIVE: "The predictions follow the truth, but shifting the EEG does not "
        f"cost it in every subject: {numbers}.",
        Finding.TOO_FEW: _few_subjects_text(evidence, numbers),
    }
    return sentences[finding]


def _copy_text(evidence: Evidence, numbers: str) -> str:
    if evidence.copies:
        return (
            f"It repeats past volumes when it is given them (r {evidence.teacher or 0:.2f}, with "
            f"circularly shifted EEG {evidence.teacher_shifted or 0:.2f}) and has little without "
            f"them: {numbers}."
        )
    what = "the last volume" if evidence.lag_trs == 1 else f"the volume {evidence.lag_trs:.0f} back"
    if evidence.lag_trs < 0:
        what = f"the volume {-evidence.lag_trs:.0f} ahead"
    return (
        f"It repeats {what}, whatever the EEG: moved by {abs(evidence.lag_trs):.0f} TR it has r "
        f"{evidence.r_at_lag:.2f}; as it stands, {numbers}."
    )


def _later_text(evidence: Evidence) -> str:
    return (
        "it also sees the future: EEG recorded after a volume changes that volume, by up to "
        f"{100 * evidence.noncausal_fraction:.0f} % of what all EEG does"
    )


def _global_text(evidence: Evidence) -> str:
    return (
        "it is in what the whole brain shares: without the global signal r is "
        f"{evidence.r_region_gsr.mean:.2f} ({_interval_text(evidence.specific_gain)}). Breathing "
        "and movement reach BOLD and EEG alike, in the whole brain at once, and would look the same"
    )


def _anatomy(evidence: Evidence) -> str:
    return (
        f"Its PSNR of {evidence.psnr_db:.1f} dB (training mean {evidence.psnr_mean_db:.1f}, the "
        f"subject's own mean {evidence.psnr_subject_db:.1f}) is knowledge of the subject's anatomy."
    )


def _few_subjects_text(evidence: Evidence, numbers: str) -> str:
    n = evidence.gain.n
    subjects = "One subject is" if n == 1 else f"{n} subjects are"
    uses_here = evidence.follows and evidence.depends_on_eeg
    sign = "It does so here" if uses_here else "No sign of it here"
    return f"{sign}: {numbers}. {subjects} too few to say it of others."


def _symptoms(finding: Finding, evidence: Evidence) -> list[str]:
    """What is wrong beside the finding itself."""
    notes = []
    if finding is Finding.USES_EEG and not evidence.depends_on_eeg:
        notes.append("Most of its r stays when the EEG is shifted: something else carries it.")
    if evidence.copies and finding is not Finding.COPIES_PAST:
        notes.append(
            f"Given the true past it reaches r {evidence.teacher:.2f}, with circularly shifted EEG "
            f"{evidence.teacher_shifted:.2f}: that score is copied from the past."
        )
    if evidence.std_ratio < COLLAPSED_STD_RATIO and finding not in CONSTANT:
        notes.append(f"Its changes are only {evidence.std_ratio:.2f} of the true size.")
    if evidence.std_ratio > WANDERING_STD_RATIO and finding is not Finding.WANDERING:
        notes.append(f"Its changes are {evidence.std_ratio:.1f} times too large.")
    return notes


def _suspicions(finding: Finding, evidence: Evidence) -> list[str]:
    """What may not be what it seems."""
    notes = []
    if evidence.r.mean >= NEARLY_PERFECT_R:
        notes.append(
            f"r {evidence.r.mean:.2f} is nearly perfect. Measured BOLD has noise that no EEG "
            "tells: unless the data have none, the truth has leaked into the prediction."
        )
    if evidence.sees_future and finding is not Finding.SEES_FUTURE:
        text = _later_text(evidence)
        notes.append(f"{text[0].upper()}{text[1:]}.")
    if evidence.is_global and finding is Finding.SEES_FUTURE:
        text = _global_text(evidence)
        notes.append(f"{text[0].upper()}{text[1:]}.")
    if evidence.knows_subject and finding is not Finding.KNOWS_SUBJECT:
        notes.append(_anatomy(evidence))
    if evidence.follows_at_lag:
        side = "late" if evidence.lag_trs > 0 else "early"
        notes.append(
            f"It comes {abs(evidence.lag_trs):.0f} TR too {side}: moved by as much it would reach "
            f"r {evidence.r_at_lag:.2f}."
        )
    other = evidence.r_other_subject
    if finding in ANSWERED_YES and other is not None and other > ANOTHERS_SHARE * evidence.r.mean:
        notes.append(
            f"With the EEG of another subject it still reaches r {other:.2f}: that part is no "
            "trace of this subject's brain."
        )
    return notes


def _against_ceiling(eeg_only: ScoreRow, baselines: dict[str, ScoreRow]) -> list[str]:
    ceiling = baselines.get("ceiling")
    if ceiling is None:
        return []
    explained = eeg_only.interval("ceiling_normalized_r2")
    highest = ceiling.interval("r_region").mean
    if not explained.n:
        return [f"Nothing can be explained here: the noise ceiling is r {highest:.2f}."]
    text = f"It explains {explained.mean:.0f} % of the explainable variance"
    if explained.mean <= 0:
        text = "It explains nothing of the explainable variance"
    if explained.known:
        text += f" (95 % interval {explained.low:.0f} to {explained.high:.0f} %)"
    return [f"{text} in subjects that it has not seen: the noise ceiling is r {highest:.2f}."]


def _in_regions(eeg_only: ScoreRow) -> list[str]:
    if eeg_only.regions is None or eeg_only.p_value is None:
        return []
    return [
        f"r is above chance in {len(eeg_only.regions.found())} of {len(eeg_only.regions.q)} "
        "regions (circular shifts, false discovery rate 5 %)."
    ]


def _against_mean_image(eeg_only: ScoreRow, baselines: dict[str, ScoreRow]) -> list[str]:
    mean_image = baselines.get("training_mean")
    if mean_image is None:
        return []
    psnr, psnr_mean = (row.interval("psnr_minmax_db").mean for row in (eeg_only, mean_image))
    ssim, ssim_mean = (row.interval("ssim2d_minmax").mean for row in (eeg_only, mean_image))
    if psnr > psnr_mean + PSNR_MARGIN_DB or ssim > ssim_mean + SSIM_MARGIN:
        return []
    return [
        f"Its PSNR and SSIM ({psnr:.1f} dB, {ssim:.3f}) are no better than those of one constant "
        f"image, the training mean ({psnr_mean:.1f} dB, {ssim_mean:.3f})."
    ]


def _against_ridge(eeg_only: ScoreRow, baselines: dict[str, ScoreRow]) -> list[str]:
    ridge = baselines.get("ridge")
    if ridge is None:
        return []
    difference = gain(eeg_only, ridge)
    word = "It beats" if difference.low > 0 else "It does not beat"
    if difference.high < 0:
        word = "It is worse than"
    if not difference.known:
        word = "Beside it:"
    return [
        f"{word} ridge regression on the same EEG (r {ridge.interval('r_region').mean:.2f}; "
        f"{_interval_text(difference)})."
    ]


def _at_its_start(run: RunSection) -> list[str]:
    if run.chosen_epoch != 0:
        return []
    return [
        "These are the weights from before the first step, which no step of the training clearly "
        "bettered on validation subjects."
    ]


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
