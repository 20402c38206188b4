"""Config of evaluation and prediction."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from eeg2fmri_dist.config.schema import MAX_THREADS, Schema


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
    max_volumes: int | None = Field(
        None, ge=2, description="score only so many first volumes of each recording; null = all"
    )
    threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="CPU threads; null = all cores"
    )


class PredictConfig(Schema):
    """`launch/predict.py`: a trained run and an EEG recording -> 4-D NIfTI."""

    run: Path = Field(description="run folder of `launch/train.py` (transformer or unet)")
    eeg: Path = Field(description="BrainVision header (.vhdr) of the EEG recording")
    output: Path = Field(description="NIfTI file to write (.nii.gz); a .json lies beside it")
    checkpoint: str = Field("best", description="best, latest, or the name of a checkpoint")
    marker: str | None = Field(
        None, description="volume marker, where it differs from the one of the training data"
    )
    threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="CPU threads; null = all cores"
    )

    @field_validator("output")
    @classmethod
    def _is_nifti(cls, path: Path) -> Path:
        if not path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"output is a NIfTI file (.nii.gz or .nii), got {path.name}")
        return path

    @field_validator("marker")
    @classmethod
    def _is_expression(cls, marker: str | None) -> str | None:
        try:
            re.compile(marker or "")
        except re.error as error:
            raise ValueError(f"marker is no regular expression ({error})") from None
        return marker
