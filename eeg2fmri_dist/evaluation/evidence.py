"""The numbers that a verdict on a run is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eeg2fmri_dist.evaluation.results import RunSection
from eeg2fmri_dist.evaluation.score_rows import ScoreRow, gain
from eeg2fmri_dist.evaluation.significance import Interval

MAX_P = 0.05
GLOBAL_SHARE = 0.5
HIGH_TEACHER_FORCED_R = 0.2
COPIED_SHARE = 0.8
CLEAR_R_AT_LAG = 0.3
COPY_R_AT_LAG = 0.5
CLEAR_GAIN_AT_LAG = 0.05
NONCAUSAL_SHARE = 0.02
PSNR_MARGIN_DB = 0.1


@dataclass(frozen=True)
class Evidence:
    """Means over subjects of what the decision looks at.

    Attributes
    ----------
    r, r_shifted, gain : Interval
        Region-wise r with true and circularly shifted EEG, and their paired difference.
    r_region_gsr, specific_gain : Interval
        r and difference without the global signal (`scores.temporal.without_global`); means are
        NaN where it was not scored.
    std_ratio : float
        Temporal standard deviation, prediction / truth.
    p : float
        Of r, from circular shifts.
    teacher, teacher_shifted : float or None
        r of a Transformer that is given the true past.
    lag_trs : float
        By how many TRs the prediction comes late in the median subject.
    r_at_lag, r_at_lag_shifted : float
        r where it fits best, with true and circularly shifted EEG.
    noncausal_fraction : float
        See `timing.noncausal_fraction`.
    r_other_subject : float or None
        r with the EEG of another subject.
    psnr_db, psnr_mean_db, psnr_subject_db : float
        In the convention of [0, 1]-scaled volumes: the run, the training mean, the subject's own
        mean; NaN where it was not scored.
    """

    r: Interval
    r_shifted: Interval
    gain: Interval
    r_region_gsr: Interval
    specific_gain: Interval
    std_ratio: float
    p: float
    teacher: float | None
    teacher_shifted: float | None
    lag_trs: float
    r_at_lag: float
    r_at_lag_shifted: float
    noncausal_fraction: float
    r_other_subject: float | None
    psnr_db: float
    psnr_mean_db: float
    psnr_subject_db: float

    @property
    def follows(self) -> bool:
        """Whether the prediction follows the truth beyond circular shifts of itself."""
        return self.p < MAX_P and self.r.mean > 0

    @property
    def depends_on_eeg(self) -> bool:
        """Whether shifting the EEG in time costs it a good part of its r."""
        return self.r_shifted.mean < COPIED_SHARE * self.r.mean

    @property
    def is_global(self) -> bool:
        """Whether little of what the EEG tells is left without the global signal."""
        little = self.specific_gain.mean < GLOBAL_SHARE * self.gain.mean
        return self.specific_gain.known and self.specific_gain.low <= 0 and little

    @property
    def inverted(self) -> bool:
        """Whether the true EEG makes it run against the truth, in an interval over subjects."""
        return self.gain.high < 0 and self.r.high < 0

    @property
    def copies(self) -> bool:
        """Whether it scores with the true past whatever the EEG."""
        if self.teacher is None or self.teacher_shifted is None:
            return False
        high = self.teacher >= HIGH_TEACHER_FORCED_R
        return high and self.teacher_shifted >= COPIED_SHARE * self.teacher

    @property
    def fits_at_lag(self) -> bool:
        """Whether it fits clearly better, and well, moved by some TRs."""
        better = self.r_at_lag > self.r.mean + CLEAR_GAIN_AT_LAG
        return abs(self.lag_trs) >= 1 and better and self.r_at_lag >= CLEAR_R_AT_LAG

    @property
    def repeats_volumes(self) -> bool:
        """Whether it is the truth moved in time, whatever the EEG."""
        same = self.r_at_lag_shifted >= COPIED_SHARE * self.r_at_lag
        return self.fits_at_lag and self.r_at_lag >= COPY_R_AT_LAG and same

    @property
    def follows_at_lag(self) -> bool:
        """Whether it is late or early with what it makes of the EEG."""
        return self.fits_at_lag and self.r_at_lag_shifted < COPIED_SHARE * self.r_at_lag

    @property
    def sees_future(self) -> bool:
        """Whether volumes depend on EEG that was recorded after them."""
        return self.noncausal_fraction >= NONCAUSAL_SHARE

    @property
    def knows_subject(self) -> bool:
        """Whether it is nearer to the subject's own mean image than to the training mean."""
        room = self.psnr_subject_db - self.psnr_mean_db
        nearer = self.psnr_db - self.psnr_mean_db > room / 2
        return room > PSNR_MARGIN_DB and nearer and bool(np.isfinite(self.psnr_db))


def gather_evidence(run: RunSection, baselines: Mapping[str, ScoreRow]) -> Evidence:
    """Collect the evidence on a run that has ``eeg_only`` and ``shifted`` rows and a p-value."""
    eeg_only, shifted = run.row("eeg_only"), run.row("shifted")
    assert eeg_only is not None
    assert shifted is not None
    assert eeg_only.p_value is not None
    return Evidence(
        r=eeg_only.interval("r_region"),
        r_shifted=shifted.interval("r_region"),
        gain=gain(eeg_only, shifted),
        r_region_gsr=eeg_only.interval("r_region_gsr"),
        specific_gain=gain(eeg_only, shifted, "r_region_gsr"),
        std_ratio=eeg_only.interval("std_ratio").mean,
        p=eeg_only.p_value,
        teacher=_mean_r(run.row("teacher_forced")),
        teacher_shifted=_mean_r(run.row("teacher_forced_shifted")),
        lag_trs=float(np.median(list(eeg_only.values("lag_trs").values()) or [0.0])),
        r_at_lag=eeg_only.interval("r_at_lag").mean,
        r_at_lag_shifted=shifted.interval("r_at_lag").mean,
        noncausal_fraction=eeg_only.interval("noncausal_fraction").mean,
        r_other_subject=_mean_r(run.row("other_subject")),
        psnr_db=_mean_psnr(eeg_only),
        psnr_mean_db=_mean_psnr(baselines.get("training_mean")),
        psnr_subject_db=_mean_psnr(baselines.get("subject_mean")),
    )


def _mean_r(row: ScoreRow | None) -> float | None:
    return None if row is None else row.interval("r_region").mean


def _mean_psnr(row: ScoreRow | None) -> float:
    return float("nan") if row is None else row.interval("psnr_minmax_db").mean
