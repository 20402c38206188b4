"""Config of evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from eeg2fmri_dist.config.base import MAX_THREADS, Schema


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
        "subject (the first of the recording) as the reference image, and r with their EEG moving "
        "the model toward the subject; lengths above half of the shortest recording are left out; "
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
