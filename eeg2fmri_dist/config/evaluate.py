"""Config of evaluation and prediction."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eeg2fmri_dist.config.preprocess import AtlasConfig
from eeg2fmri_dist.config.schema import MAX_THREADS, Schema, SubjectId


class EvaluateConfig(Schema):
    """`launch/evaluate.py`: trained runs -> metrics.json and report.html."""

    runs: list[Path] = Field(min_length=1, description="run folders of `launch/train.py`")
    output: Path = Field(description="folder that gets metrics.json and report.html")
    title: str = Field("EEG to fMRI", description="title of the report")
    subjects: Literal["test", "validation"] = Field(
        "test", description="which part of the split is scored"
    )
    truth: Path | None = Field(
        None,
        description="folder with the truth of simulated subjects (`truth` in the output of "
        "`launch/simulate.py`): scores are then also given as a share of the noise ceiling",
    )
    ssim_every: int = Field(
        5, ge=1, description="SSIM is computed on every n-th volume (it costs the most)"
    )
    calibration_volumes: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 10, 30, 60],
        description="PSNR is also given with a calibration scan of so many volumes of the same "
        "person (the first of the recording) as the reference image, and r with their EEG moving "
        "the model towards the person; lengths above half of the shortest recording are left out; "
        "[] = none",
    )
    max_volumes: int | None = Field(
        None, ge=2, description="score only so many first volumes of each recording; null = all"
    )
    threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="CPU threads; null = all cores"
    )


class CompareConfig(Schema):
    """`launch/compare.py`: evaluations of any stores and splits -> one page that compares them."""

    evaluations: list[Path] = Field(
        min_length=1,
        description="metrics.json of `launch/evaluate.py`, or folders that hold one (outputs of "
        "evaluations, or run folders)",
    )
    output: Path = Field(description="folder that gets comparison.html and comparison.json")
    title: str = Field("Comparison of models", description="title of the page")


class ExportConfig(Schema):
    """`launch/export.py`: a trained run -> safetensors with a model card, to hand on."""

    run: Path = Field(description="run folder of `launch/train.py`")
    output: Path = Field(
        description="folder that gets model.safetensors, README.md (the model card), manifest.json "
        "and, where the model was scored, metrics.json"
    )
    checkpoint: str = Field("best", description="best, latest, or the name of a checkpoint")
    scores: Path | None = Field(
        None,
        description="metrics.json of `launch/evaluate.py`, for the card; null = the one in the run "
        "folder",
    )
    name: str | None = Field(None, description="of the model; null = that of the run folder")
    license: str | None = Field(
        None,
        description="of the weights, such as cc-by-4.0; null = the card says that none is given",
    )


class PredictConfig(Schema):
    """`launch/predict.py`: a trained model and EEG recordings -> predicted BOLD runs."""

    run: Path = Field(
        description="run folder of `launch/train.py`, folder of `launch/export.py`, or a "
        ".safetensors file of either"
    )
    eeg: list[Path] = Field(
        min_length=1,
        description="EEG recordings, one or a list: BrainVision (.vhdr), EDF (.edf), BDF (.bdf), "
        "EEGLAB (.set), or folders in BIDS; no fMRI is needed",
    )
    output: Path = Field(
        description="folder that gets a BIDS derivative data set (NIfTI, JSON, regional time "
        "series, a page per recording); for one recording also a NIfTI file (.nii.gz), the others "
        "lie beside it"
    )
    task: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9+]+$",
        description="BIDS folders: this task alone; files whose name tells no task: their task",
    )
    subjects: list[SubjectId] | None = Field(
        None, min_length=1, description="BIDS folders: these subjects alone; null = all"
    )
    checkpoint: str = Field("best", description="best, latest, or the name of a checkpoint")
    marker: str | None = Field(
        "auto",
        description="regular expression of the volume marker; auto = that of the training data "
        "where the recording has it, else null; null = volumes follow each other from the first "
        "sample on, as in EEG from outside a scanner",
    )
    interpolate: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="share of the model's channels that a recording may lack; they are "
        "interpolated by spherical splines; 0 = refuse whenever one is missing",
    )
    calibration: Path | None = Field(
        None,
        description="BOLD run (NIfTI) of the person whose EEG it is, a few volumes beyond those "
        "dropped: it is registered, and its mean image takes the place of the training subjects'",
    )
    calibration_eeg: Path | None = Field(
        None,
        description="the EEG recorded with that run, a marker for each volume: the model is then "
        "moved towards the person, as far as helped validation subjects in its evaluation",
    )
    atlas: AtlasConfig = Field(AtlasConfig(), description="regions of the time series")
    scores: Path | None = Field(
        None,
        description="metrics.json of `launch/evaluate.py`, for the pages; null = the one in the "
        "folder of the model",
    )
    threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="CPU threads; null = all cores"
    )

    @model_validator(mode="after")
    def _eeg_belongs_to_a_scan(self) -> PredictConfig:
        if self.calibration_eeg is not None and self.calibration is None:
            raise ValueError(
                "calibration_eeg is the EEG of a calibration scan: give calibration too"
            )
        return self

    @field_validator("eeg", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("output")
    @classmethod
    def _is_folder_or_nifti(cls, path: Path) -> Path:
        nifti = path.name.endswith((".nii", ".nii.gz"))
        if path.suffix in (".gz", ".txt", ".json", ".tsv", ".html", ".h5", ".mgz") and not nifti:
            raise ValueError(
                f"output is a folder or a NIfTI file (.nii.gz or .nii), got {path.name}"
            )
        return path

    @field_validator("marker")
    @classmethod
    def _is_expression(cls, marker: str | None) -> str | None:
        try:
            re.compile(marker or "")
        except re.error as error:
            raise ValueError(f"marker is no regular expression ({error})") from None
        return marker

    @property
    def writes_one_file(self) -> bool:
        """Whether `output` names the NIfTI file of one recording."""
        return self.output.name.endswith((".nii", ".nii.gz"))
