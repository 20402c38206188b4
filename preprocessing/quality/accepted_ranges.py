"""Numbers of a recording with the ranges in which they are accepted, and the verdict.

The ranges are conventions, not laws; each says where it comes from. "Look" means that a person
should decide; "reject" that training on the recording would do harm. Nothing is left out by
itself: a person does that with `source.exclude`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

Quality = Mapping[str, float | str | bool]


class Level(IntEnum):
    """How good a number, or a whole recording, is; the worst number decides."""

    ACCEPT = 0
    LOOK = 1
    REJECT = 2

    @property
    def word(self) -> str:
        """Return accept, look or reject."""
        return self.name.lower()


@dataclass(frozen=True)
class Range:
    """A number of the store's quality column and where it should lie.

    Attributes
    ----------
    name : str
        Key of the quality column.
    label, unit : str
    digits : int
        After the decimal point.
    accepted, tolerated : tuple of float
        Smallest and largest value that is accepted, and that is left to a subject; beyond: reject.
    meaning : str
        What a value outside says, and where the limits come from.
    """

    name: str
    label: str
    unit: str
    digits: int
    accepted: tuple[float, float]
    tolerated: tuple[float, float]
    meaning: str

    def level(self, value: float) -> Level:
        """Judge a value; what is not a number needs a look."""
        if math.isnan(value):
            return Level.LOOK
        for level, (low, high) in ((Level.ACCEPT, self.accepted), (Level.LOOK, self.tolerated)):
            if low <= value <= high:
                return level
        return Level.REJECT

    def describe(self, limits: tuple[float, float]) -> str:
        """Return limits in words, such as ``≤ 0.25 mm``."""
        low, high = limits
        if math.isinf(low) and math.isinf(high):
            return "any"
        if math.isinf(low):
            return f"≤ {self.text(high)}"
        if math.isinf(high):
            return f"≥ {self.text(low)}"
        return f"{self.text(low)} to {self.text(high)}"

    def text(self, value: float) -> str:
        """Return a value with its unit and a true minus sign."""
        number = f"{value:.{self.digits}f}".replace("-", "−")
        return f"{number} {self.unit}".strip()


@dataclass(frozen=True)
class Check:
    """One number of a recording, judged."""

    range: Range
    value: float
    level: Level

    @property
    def reason(self) -> str:
        """Return why it is not accepted, in words."""
        asked = self.range.describe(self.range.accepted)
        return f"{self.range.label} is {self.range.text(self.value)}, accepted: {asked}"


@dataclass(frozen=True)
class Verdict:
    """What the numbers say about a recording.

    Attributes
    ----------
    level : Level
    reasons : tuple of str
        Why it is not accepted; empty if it is.
    checks : tuple of Check
        All numbers that were judged.
    """

    level: Level
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


_ANY = math.inf
RANGES = (
    Range("dice", "overlap of brain masks", "", 3, (0.90, _ANY), (0.85, _ANY),
          "Dice of the warped EPI mask and the template's; below 0.90 the registration or the mask "
          "of the EPI is doubtful (real and simulated runs that fit reach 0.91 to 0.98)."),
    Range("coverage", "brain in the field of view", "", 3, (0.85, _ANY), (0.60, _ANY),
          "Share of the template's brain that the EPI covers; what is missing is zero in the "
          "store."),
    Range("jacobian_min", "smallest local volume change", "", 2, (0.2, _ANY), (0.05, _ANY),
          "Jacobian determinant of SyN inside the brain; 0 or less would be a fold."),
    Range("true_error_mean_mm", "true registration error, mean", "mm", 2, (-_ANY, 1.5),
          (-_ANY, 3.0), "Distance from the simulator's own map; known for simulated data alone."),
    Range("fd_mean_mm", "framewise displacement, mean", "mm", 2, (-_ANY, 0.25), (-_ANY, 0.55),
          "The strict and the lenient limit of Parkes et al. 2018 (NeuroImage 171:415)."),
    Range("fd_max_mm", "framewise displacement, largest", "mm", 2, (-_ANY, 5.0), (-_ANY, _ANY),
          "A jump of 5 mm (Parkes et al. 2018): look at that moment in the time courses."),
    Range("fd_share_above_0.5mm", "volumes that moved by more than 0.5 mm", "", 3, (-_ANY, 0.1),
          (-_ANY, 0.33), "Threshold of Power et al. 2012 (NeuroImage 59:2142)."),
    Range("translation_range_mm", "largest drift of the head", "mm", 2, (-_ANY, 3.0),
          (-_ANY, _ANY), "About one voxel: correct it with bold.motion=correct."),
    Range("std_dvars_share_above_1.5", "volumes with std. DVARS above 1.5", "", 3, (-_ANY, 0.05),
          (-_ANY, 0.25), "Sudden changes of the whole brain (threshold of fMRIPrep)."),
    Range("tsnr_median", "temporal signal-to-noise ratio, median", "", 1, (30.0, _ANY),
          (12.0, _ANY), "Mean over standard deviation; usual runs of 3 mm have 40 to 100."),
    Range("eeg_marker_spacing_max_deviation_s", "largest deviation of a volume marker", "s", 5,
          (-_ANY, 0.002), (-_ANY, _ANY), "Trigger jitter or lost synchronization of the clocks."),
    Range("eeg_end_missing_s", "EEG missing at the end", "s", 2, (-_ANY, 0.0), (-_ANY, _ANY),
          "The last volume has less EEG than the others."),
    Range("eeg_peak_to_peak_uv_median", "EEG range, median channel", "µV", 0, (10.0, 600.0),
          (2.0, 2500.0), "Of the band-passed signal; millivolts are gradient artifact that was not "
          "removed, a few microvolts no signal."),
    Range("eeg_peak_to_peak_uv_max", "EEG range, worst channel", "µV", 0, (10.0, 2500.0),
          (2.0, _ANY), "A channel far above the others lost contact."),
    Range("eeg_outlier_share", "volumes with outlying EEG power", "", 3, (-_ANY, 0.05),
          (-_ANY, 0.25), "Power more than 4 robust standard deviations from the median."),
    Range("eeg_slice_peak_db", "peak at slices per second", "dB", 1, (-_ANY, 3.0), (-_ANY, 10.0),
          "Above the neighboring frequencies: gradient artifact is left."),
    Range("eeg_bad_channel_share", "bad EEG channels", "", 3, (-_ANY, 0.1), (-_ANY, 0.3),
          "Found flat, noisy or saturated and interpolated from their neighbors."),
    Range("eeg_residual_db", "artifact left in the worst band, median channel", "dB", 2,
          (-_ANY, 1.0), (-_ANY, 3.0), "Power after removal against the simulator's artifact-free "
          "EEG; known for simulated data alone."),
)  # fmt: skip


def judge(quality: Quality, dummy_scans: int) -> Verdict:
    """Judge the numbers of a recording.

    Parameters
    ----------
    quality : mapping
        Its row of the store's quality column.
    dummy_scans : int
        First volumes that were left out.
    """
    checks = []
    for limits in (*RANGES, _saturation(dummy_scans)):
        value = quality.get(limits.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            checks.append(Check(limits, float(value), limits.level(float(value))))
    reasons = [check.reason for check in checks if check.level > Level.ACCEPT]
    level = max((check.level for check in checks), default=Level.LOOK)
    if remark := str(quality.get("tr_mismatch") or ""):
        reasons.append(remark)
        level = max(level, Level.LOOK)
    return Verdict(level, tuple(reasons), tuple(checks))


def _saturation(dummy_scans: int) -> Range:
    return Range(
        "saturated_volumes", "first volumes brighter than the rest", "", 0,
        (-_ANY, float(dummy_scans)), (-_ANY, _ANY),
        "T1 saturation: dummy_scans should be at least this.",
    )  # fmt: skip
