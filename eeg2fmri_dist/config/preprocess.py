"""Config of preprocessing: where recordings are, how they become samples, where it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator

from eeg2fmri_dist.config.base import OffIsAWord, Schema, SubjectId
from eeg2fmri_dist.config.names import former_names
from eeg2fmri_dist.config.without_effect import WithoutEffect, given, unread

BANDS_HZ = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30)}


def _listed(value: object) -> object:
    """One label stands for a list of one."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


Labels = Annotated[list[SubjectId], BeforeValidator(_listed), Field(min_length=1)]


class Exclusion(Schema):
    """Recordings left out, and why."""

    subject: SubjectId | None = Field(None, description="of this subject; null = of any")
    session: SubjectId | None = Field(None, description="of this session; null = of any")
    task: SubjectId | None = Field(None, description="of this task; null = of any")
    run: SubjectId | None = Field(None, description="of this run; null = of any")
    reason: str = Field(
        min_length=1, description="why, in words; kept in the store, shown on the quality index"
    )

    @model_validator(mode="after")
    def _names_something(self) -> Exclusion:
        if not any((self.subject, self.session, self.task, self.run)):
            raise ValueError("name a subject, session, task or run, or several of them")
        return self


class SourceConfig(Schema):
    """Recordings to read."""

    renamed = former_names.DISCRIMINATOR

    name: Literal["noddi", "bids", "custom"] = Field(
        description="layout of the folder; custom = source.layout says"
    )
    path: Path = Field(description="folder that holds the recordings")
    layout: Path | None = Field(
        None,
        description="custom: Python file that defines find_recordings(source), see "
        "docs/own_data.md",
    )
    eeg: Literal["raw", "export"] = Field("raw", description="NODDI: which of the two EEG versions")
    eeg_files: str | None = Field(
        None,
        pattern=r"^[^/].*\.(vhdr|set|edf|bdf)$",
        description="BIDS: glob pattern below source.path of other EEG than the raw one, such as "
        "derivatives/sub-*/eeg_pp/*_eeg_pp.vhdr; null = sub-*/[ses-*/]eeg/*_eeg.*",
    )
    origin: Literal["real", "simulated", "simulated_eeg"] = Field(
        "real", description="said in every report; simulated_eeg = real BOLD with simulated EEG"
    )
    subjects: Labels | None = Field(
        None, description="only these subjects, such as [32, 35]; null = all"
    )
    sessions: Labels | None = Field(None, description="only these sessions; null = all")
    tasks: Labels | None = Field(None, description="only these tasks, such as [rest]; null = all")
    runs: Labels | None = Field(None, description="only these runs, such as [1, 2]; null = all")
    exclude: list[Exclusion] = Field(
        [],
        description='recordings left out, such as [{subject: "32", run: 2, reason: "fell asleep"}]',
    )
    tr_s: float | None = Field(
        None, gt=0, description="repetition time in s; overrides sidecar and NIfTI header"
    )

    @model_validator(mode="after")
    def _custom_has_a_layout(self) -> SourceConfig:
        if (self.name == "custom") != (self.layout is not None):
            raise ValueError("source.layout belongs to source.name: custom, which needs it")
        return self

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of the other layout; a custom one may read them all."""
        keys = given(self)
        if self.name == "bids":
            yield from unread(keys, "source.name: noddi", "eeg", is_mistake=True)
        if self.name == "noddi":
            yield from unread(keys, "source.name: bids", "eeg_files", is_mistake=True)


class GradientArtifactConfig(Schema):
    """Average artifact subtraction."""

    remove: bool | Literal["auto"] = Field(
        "auto",
        description="gradient artifact; auto = where most of the power repeats with the volumes, "
        "as in uncorrected EEG",
    )
    volumes: int = Field(
        20,
        ge=4,
        multiple_of=2,
        description="neighbors averaged, half before and half behind; fewer follow movements "
        "sooner, more leave less noise (1 / volumes of the EEG's power)",
    )

    def without_effect(self) -> Iterator[WithoutEffect]:
        """How it would be removed, where it is not."""
        if self.remove is False:
            yield from unread(given(self), "eeg.gradient_artifact.remove: true or auto", "volumes")


class PulseArtifactConfig(Schema):
    """Beat by beat, from an ECG channel."""

    remove: bool | Literal["auto"] = Field(
        "auto",
        description="pulse artifact; auto = where the gradient artifact is removed and there is "
        "an ECG channel",
    )
    method: Literal["head", "channel"] = Field(
        "head",
        description="head = mean beat, its strength and timing; channel = optimal basis sets of "
        "each channel (MNE), which also take strong brain rhythms away",
    )
    components: int = Field(
        2,
        ge=1,
        le=10,
        description="head: topographies whose strength may vary; channel: principal components",
    )

    def without_effect(self) -> Iterator[WithoutEffect]:
        """How it would be removed, where it is not."""
        if self.remove is False:
            removed = "eeg.pulse_artifact.remove: true or auto"
            yield from unread(given(self), removed, "method", "components")


class EegConfig(Schema):
    """Continuous EEG -> power per volume, channel and frequency."""

    renamed = former_names.EEG

    marker: str | None = Field(
        "R128",
        description="regular expression found in the description of a volume marker; null = no "
        "markers, the EEG was cut to the scan (volume 0 begins at its first sample)",
    )
    first_volume: int | None = Field(
        None,
        ge=0,
        description="null = the EEG holds the whole BOLD run; N = it was cut and begins with "
        "volume N (from 0), at most dummy_scans; volumes behind its end are left out",
    )
    band_hz: tuple[float, float] = Field((1.0, 30.0), description="band-pass edges in Hz")
    sfreq_hz: float = Field(
        1000.0,
        gt=0,
        description="sampling rate in Hz after decimation by a whole factor, or the next higher "
        "one; slower EEG keeps its own; EEG that is corrected needs no more than 250 Hz",
    )
    window_s: float = Field(1.0, gt=0, description="Fourier window in s (1 s gives 1 Hz bins)")
    windows_per_tr: int = Field(
        11, ge=1, description="windows with middles spread evenly over each TR, power is averaged"
    )
    features: Literal["bins", "bands"] = Field(
        "bins", description="1 Hz bins, or delta (1-4 Hz), theta (4-8), alpha (8-13), beta (13-30)"
    )
    drop_channels: list[str] = Field(
        ["ECG", "EKG", "EOG", "HEOG", "VEOG", "EMG"],
        description='channels left out, by name or beginning of it ("O1" leaves O10 in)',
    )
    min_channels: int = Field(8, ge=1, description="fewer usable scalp channels are refused")
    gradient_artifact: GradientArtifactConfig = Field(
        GradientArtifactConfig(), description="voltages induced by the switching of gradients"
    )
    pulse_artifact: PulseArtifactConfig = Field(
        PulseArtifactConfig(), description="movements of head and vessels with each heartbeat"
    )
    bad_channels: Literal["refuse", "interpolate"] = Field(
        "refuse",
        description="refuse = flat channels and NaN are errors, others are taken as they are; "
        "interpolate = find flat, saturated, noisy and unlike channels, replace them by splines",
    )
    reference: Literal["recorded", "average"] = Field(
        "recorded", description="average = subtract the mean of the scalp channels"
    )
    spatial_filter: Literal["none", "csd"] = Field(
        "none",
        description="csd = current source density (surface Laplacian): what a channel sees beyond "
        "its neighbors, whatever the reference",
    )

    @field_validator("marker")
    @classmethod
    def _is_regex(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return value

    def without_effect(self) -> Iterator[WithoutEffect]:
        """See `Schema`."""
        if self.spatial_filter == "csd":
            yield from unread(given(self), "eeg.spatial_filter: none", "reference")

    @model_validator(mode="after")
    def _band_fits_rate(self) -> EegConfig:
        low, high = self.band_hz
        if not 0 < low < high:
            raise ValueError(f"eeg.band_hz must rise from above 0, got {self.band_hz}")
        if high >= 0.4 * self.sfreq_hz:
            raise ValueError(f"eeg.band_hz ends above 0.4 x eeg.sfreq_hz ({self.sfreq_hz})")
        return self


class BoldConfig(Schema):
    """BOLD run -> volumes on the grid of the store."""

    renamed = former_names.BOLD

    grid: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (64, 64, 30), description="voxels of the store's grid over the MNI152 field of view"
    )
    transform: Literal["affine", "syn"] = Field(
        "syn", description="affine alone, or affine then SyN where the gate accepts it"
    )
    spatial_normalization: Literal["direct_epi", "t1w"] = Field(
        "direct_epi",
        description="EPI -> template, or EPI -> T1 -> template for recordings that have a T1 and "
        "where a gate accepts it (15 CPU seconds more, 0.3 to 0.5 mm nearer in simulated heads)",
    )
    seed: int = Field(0, ge=0, description="seed of the registration's random sampling")
    min_dice: float = Field(
        0.90,
        ge=0,
        le=1,
        description="overlap of warped EPI mask and template mask; less is refused",
    )
    motion: Literal["measure", "correct"] = Field(
        "measure",
        description="six rigid parameters per volume go to the quality page and to /confounds of "
        "the store; correct: they are also taken out, within the same interpolation",
    )
    slice_timing: Annotated[
        Literal["off", "sidecar", "ascending", "descending", "interleaved"], OffIsAWord
    ] = Field(
        "off",
        description="shift each slice to the middle of its TR: its time from the BIDS sidecar, or "
        "from an order of equal steps (interleaved: slices 0, 2, 4, ... then 1, 3, 5, ...)",
    )


class AtlasConfig(Schema):
    """Region labels for the report."""

    path: Path | None = Field(
        None,
        description="folder with the Harvard-Oxford NIfTI files; null looks in $FSLDIR and "
        "nilearn's data folder, then falls back to parcels cut from the mask",
    )


class ClusterConfig(Schema):
    """Where the Dask job runs."""

    renamed = former_names.DISCRIMINATOR

    name: Literal["local", "slurm", "slurm-jobs", "mpi"] = Field(
        "local",
        description="local = this machine; slurm = the tasks of one Slurm job "
        "(slurm/preprocess.sbatch); slurm-jobs = workers are Slurm jobs that this command "
        "submits; mpi = ranks of mpirun",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="worker processes, one recording each; of each task with slurm and mpi, of all "
        "jobs with slurm-jobs; null = one per core that has memory_gib, with mpi one per rank",
    )
    memory_gib: float = Field(
        3.0, gt=0, description="memory per worker in GiB; one that needs more is ended"
    )
    interface: str | None = Field(
        None,
        pattern=r"^[\w.:-]+$",
        description="slurm, slurm-jobs, mpi: network interface of the scheduler, such as ib0; "
        "null = the one of the default route",
    )
    dashboard: Annotated[Literal["loopback", "network", "off"], OffIsAWord] = Field(
        "loopback",
        description="slurm, slurm-jobs, mpi: where Dask's web page listens (needs bokeh); loopback "
        "= for the scheduler's own machine, network = for everybody, without a password",
    )
    job_workers: int = Field(1, ge=1, description="slurm-jobs: workers of each job")
    job_options: list[str] = Field(
        [], description='slurm-jobs: options of sbatch, such as ["--partition=cpu"]'
    )

    @field_validator("job_options")
    @classmethod
    def _are_options(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"-[^\n]+", value):
                raise ValueError(f"not an option of sbatch: {value!r}")
        return values

    @model_validator(mode="after")
    def _jobs_are_bounded(self) -> ClusterConfig:
        if self.name == "slurm-jobs" and self.workers is None:
            raise ValueError("cluster.name slurm-jobs needs cluster.workers, the most it may use")
        return self

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of other places; a file that names them may be tried on one machine first."""
        keys = given(self)
        if self.name == "local":
            several = "cluster.name: slurm, slurm-jobs or mpi"
            yield from unread(keys, several, "interface", "dashboard")
        if self.name != "slurm-jobs":
            yield from unread(keys, "cluster.name: slurm-jobs", "job_workers", "job_options")


class PreprocessConfig(Schema):
    """`launch/preprocess.py`: raw recordings -> one HDF5 store."""

    renamed = former_names.PREPROCESS

    source: SourceConfig = Field(description="recordings to read")
    output: Path = Field(description="HDF5 store to write; shards lie beside it in NAME.shards/")
    dummy_scans: int = Field(
        5, ge=0, description="first volumes dropped from EEG and BOLD (T1 saturation)"
    )
    eeg: EegConfig = Field(EegConfig(), description="EEG features")
    bold: BoldConfig = Field(BoldConfig(), description="BOLD volumes")
    atlas: AtlasConfig = Field(AtlasConfig(), description="region labels")
    quality: bool = Field(
        True, description="a page for each recording and an index, into NAME.quality/"
    )
    compression: Literal["none", "gzip"] = Field(
        "none", description="of volumes in the store; none can be memory-mapped"
    )
    on_error: Literal["stop", "continue"] = Field(
        "stop", description="after a failed recording: make no store, or one of the others"
    )
    cluster: ClusterConfig = Field(ClusterConfig(), description="where the Dask job runs")

    @model_validator(mode="after")
    def _eeg_has_begun(self) -> PreprocessConfig:
        if (self.eeg.first_volume or 0) > self.dummy_scans:
            raise ValueError(
                f"eeg.first_volume {self.eeg.first_volume} is more than dummy_scans "
                f"{self.dummy_scans}: there is no EEG of the first volumes kept"
            )
        return self
