"""Config of the simulator: subjects in NODDI's layout with a known EEG-to-BOLD coupling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from eeg2fmri_dist.config.base import Schema, SubjectId
from eeg2fmri_dist.config.without_effect import WithoutEffect, given, unread

SOURCE_SFREQ_HZ = 250


class EegSignalConfig(Schema):
    """Strength of what the simulated scalp channels record."""

    source_nam: float = Field(
        25.0, gt=0, description="r.m.s. moment of an alpha source at rest in nA m; others follow"
    )
    sensor_noise_uv: float = Field(3.0, ge=0, description="1/f noise of each channel, r.m.s. uV")
    line_noise_uv: float = Field(1.0, ge=0, description="50 Hz line noise, r.m.s. uV")


class ArtifactConfig(Schema):
    """What the scanner adds to the raw EEG; the exported EEG stays free of it, as the truth."""

    gradient_mv: float = Field(
        0.0,
        ge=0,
        le=10,
        description="gradient artifact: peak of the median channel in mV, at 1.5-3 T some "
        "2-5 mV; locked to slices and volumes; 0 = none",
    )
    head_motion: float = Field(
        0.02,
        ge=0,
        description="relative change of the gradient artifact by slow movements of the head, s.d.",
    )
    pulse_uv: float = Field(
        0.0,
        ge=0,
        description="pulse artifact: peak of the median channel in uV, at 1.5-3 T some 30-100 uV; "
        "follows the R peaks of the ECG by 0.21 s; 0 = none",
    )

    def without_effect(self) -> Iterator[WithoutEffect]:
        """How a gradient artifact would change, where there is none."""
        if not self.gradient_mv:
            yield from unread(given(self), "artifacts.gradient_mv above 0", "head_motion")


class BoldSignalConfig(Schema):
    """Strength of what the simulated BOLD run records, in percent of the local mean."""

    neural_percent: float = Field(
        1.5, ge=0, description="temporal s.d. of a region's neural signal in gray matter"
    )
    thermal_percent: float = Field(
        1.5, ge=0, description="thermal noise per voxel, s.d. relative to the brain's mean"
    )
    physiological_percent: float = Field(
        0.5, ge=0, description="cardiac and respiratory fluctuation per voxel, s.d."
    )
    drift_percent: float = Field(1.0, ge=0, description="slow scanner drift over the run")
    saturation_percent: float = Field(
        25.0,
        ge=0,
        description="extra brightness of volume 0 (T1 saturation); falls by e per volume",
    )


class RealismConfig(Schema):
    """What makes real recordings harder than the simulator's own; with 0 each of them is absent.

    With `coupling: 0` all of them are null data sets.
    """

    own_weights: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share (as a correlation) of a subject's weights that no other subject has, "
        "signs included",
    )
    hrf_delay_s: float = Field(
        0.0, ge=0, le=2, description="s.d. of subjects' HRF delay in s, beside the usual 0.3 s"
    )
    nonlinear: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share (as a correlation) of what drives BOLD that follows the square of "
        "band power: both high and low power raise or lower it",
    )
    cross_frequency: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share (as a correlation) of what drives BOLD that follows products of the "
        "powers of two bands",
    )
    vigilance: float = Field(
        0.0,
        ge=0,
        le=2,
        description="s.d. of slow (about 60 s) changes of log amplitude: as vigilance falls, alpha "
        "and beta fall, delta and theta rise, everywhere",
    )
    electrode_shift_mm: float = Field(
        0.0, ge=0, le=40, description="s.d. of the cap's displacement along each of two directions"
    )
    bad_channels: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="probability of a scalp channel to be bad: flat, noisy or coming loose",
    )
    residual_uv: float = Field(
        0.0,
        ge=0,
        description="gradient artifact that a correction left in all EEG, exported too: r.m.s. uV "
        "at harmonics of the slice frequency, slowly changing",
    )
    motion_mm: float = Field(
        0.0,
        ge=0,
        le=10,
        description="head motion, r.m.s. mm of each direction: wander and jerks, which the EEG "
        "shows as well",
    )
    shared_noise_percent: float = Field(
        0.0,
        ge=0,
        description="s.d. in percent of whole-brain BOLD that follows breathing effort, as does "
        "muscle noise in the EEG (4 uV for each percent): a confound, present with coupling 0, too",
    )

    @property
    def is_off(self) -> bool:
        """Whether there is none of it."""
        return self == RealismConfig()

    @model_validator(mode="after")
    def _shares_fit(self) -> RealismConfig:
        if self.nonlinear**2 + self.cross_frequency**2 > 1:
            raise ValueError("nonlinear^2 + cross_frequency^2 is at most 1")
        return self


class SimulateConfig(Schema):
    """`launch/simulate.py`: simulated subjects in NODDI's own layout and formats, with the truth.

    Everything but `output`, `subjects` and `workers` decides what the files of a subject contain.
    """

    output: Path = Field(description="folder that gets EEG1/, EEG2/, fMRI/ and truth/")
    subjects: list[SubjectId] = Field(
        min_length=1, description="ids; those of NODDI get the names that they have there"
    )
    n_volumes: int = Field(300, ge=8, description="BOLD volumes per subject")
    tr_s: float = Field(2.16, gt=0, description="repetition time in s")
    sfreq_hz: int = Field(5000, gt=0, description="sampling rate of the raw EEG in Hz")
    coupling: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share (as a correlation) of the neural BOLD signal that the EEG shows; "
        "0 = null data set with BOLD of the same kind",
    )
    between_subjects: float = Field(
        0.25, ge=0, description="relative s.d. of subjects around the population's coupling"
    )
    seed: int = Field(0, ge=0, description="of everything random")
    eeg: EegSignalConfig = Field(EegSignalConfig(), description="EEG signal and noise")
    artifacts: ArtifactConfig = Field(
        ArtifactConfig(), description="scanner artifacts in the raw EEG"
    )
    bold: BoldSignalConfig = Field(BoldSignalConfig(), description="BOLD signal and noise")
    realism: RealismConfig = Field(
        RealismConfig(), description="what makes real recordings harder; all absent by default"
    )
    stale_header: str | None = Field(
        "37", description="subject whose EEG headers name files that do not exist; null = none"
    )
    workers: int | None = Field(
        None, ge=1, description="processes, one subject each; null = one per core"
    )

    @field_validator("subjects")
    @classmethod
    def _ids_are_folder_names(cls, values: list[str]) -> list[str]:
        if odd := [value for value in values if not value.isalnum()]:
            raise ValueError(f"subject ids are letters and digits, got {odd}")
        if len(set(values)) < len(values):
            raise ValueError("a subject is named twice")
        return values

    @model_validator(mode="after")
    def _rates_fit(self) -> SimulateConfig:
        if self.sfreq_hz % SOURCE_SFREQ_HZ:
            raise ValueError(f"sfreq_hz is a multiple of {SOURCE_SFREQ_HZ}, got {self.sfreq_hz}")
        samples = self.tr_s * SOURCE_SFREQ_HZ
        if abs(samples - round(samples)) > 1e-6:
            raise ValueError(f"tr_s is a multiple of {1 / SOURCE_SFREQ_HZ} s, got {self.tr_s}")
        return self

    def without_effect(self) -> Iterator[WithoutEffect]:
        """A stale header of somebody who is not simulated."""
        if self.stale_header is not None and self.stale_header not in self.subjects:
            yield from unread(given(self), "a subject that is simulated", "stale_header")
