"""Config of what a person sees of a training."""

from __future__ import annotations

from pydantic import Field

from eeg2fmri_dist.config.base import Schema


class ProfileConfig(Schema):
    """Which steps are profiled."""

    start_step: int = Field(ge=1, description="first optimizer step; some after the start are slow")
    steps: int = Field(3, ge=1, description="optimizer steps in a row")
    rank: int = Field(0, ge=0, description="rank that is profiled")


class MonitorConfig(Schema):
    """What a training tells of itself while it runs."""

    every_steps: int = Field(
        20,
        ge=1,
        description="optimizer steps between records of speed and memory (TensorBoard, "
        "logs/rank-N.jsonl) and between lines of a log file",
    )
    pictures: bool = Field(
        True,
        description="slices, curves and correlation matrices at each validation in TensorBoard; "
        "false saves a second each, for many short trainings",
    )
    profile: ProfileConfig | None = Field(
        None, description="steps whose trace is written into profile/; null = none, else with"
    )
