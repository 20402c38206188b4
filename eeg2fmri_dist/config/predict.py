"""Config of prediction: a trained run, EEG, an output folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from eeg2fmri_dist.config.base import MAX_THREADS, Schema, SubjectId
from eeg2fmri_dist.config.preprocess import AtlasConfig


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
        description="BOLD run (NIfTI) of the subject whose EEG it is, a few volumes beyond those "
        "dropped: it is registered, and its mean image takes the place of the training subjects'",
    )
    calibration_eeg: Path | None = Field(
        None,
        description="the EEG recorded with that run, a marker for each volume: the model is then "
        "moved toward the subject, as far as helped validation subjects in its evaluation",
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
