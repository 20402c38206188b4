"""Config of export: a trained run to hand on."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from eeg2fmri_dist.config.base import Schema


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
