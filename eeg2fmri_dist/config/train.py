"""Config of training: data, split, model, optimisation, where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from eeg2fmri_dist.config.model import ModelConfig, PrincipalComponentsConfig
from eeg2fmri_dist.config.schema import Schema


class DataConfig(Schema):
    """How samples of the store become windows of numbers that a model sees."""

    normalise: Literal["voxelwise", "global"] = Field(
        "voxelwise",
        description="BOLD target: temporal z-score of each voxel of a recording, or (paper) one "
        "mean and deviation of all training volumes",
    )
    detrend_order: int = Field(
        1, ge=0, le=5, description="voxelwise: polynomial removed from each voxel's time course"
    )
    eeg_scale: Literal["log", "power"] = Field(
        "log", description="EEG features: log power or power as stored"
    )
    eeg_normalise: Literal["recording", "global"] = Field(
        "recording",
        description="EEG z-score per recording, or with statistics of the training subjects",
    )
    window: int = Field(32, ge=1, description="consecutive TRs of one training window")
    stride: int = Field(8, ge=1, description="TRs between the starts of training windows")
    context: int = Field(
        10, ge=0, description="EEG TRs before a window (haemodynamic delay); zeros before a run"
    )
    cache: Literal["auto", "ram", "mapped"] = Field(
        "auto",
        description="normalised volumes kept in RAM, or made from the mapped store when read; "
        "auto = RAM where a quarter of the free memory suffices",
    )


class SplitConfig(Schema):
    """Which recordings train, which choose the model, which are only scored."""

    kind: Literal["by_subject", "leave_one_subject_out", "by_sample"] = Field(
        "by_subject", description="by_sample mixes windows of one subject: it leaks"
    )
    fractions: tuple[float, float, float] = Field(
        (0.5, 0.25, 0.25), description="train, validation, test"
    )
    seed: int | None = Field(
        None, ge=0, description="shuffles subjects before the split; null keeps their order"
    )
    test_subject: str | None = Field(
        None, description="leave_one_subject_out: the subject that is left out"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> SplitConfig:
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"split.fractions are positive and add up to 1, got {self.fractions}")
        if self.kind == "leave_one_subject_out" and self.test_subject is None:
            raise ValueError("split.test_subject is required for leave_one_subject_out")
        return self


class OptimisationConfig(Schema):
    """Steps that change the weights."""

    epochs: int = Field(100, ge=1, description="passes over the training windows")
    batch_size: int = Field(
        16, ge=1, description="windows per optimiser step, over all ranks together"
    )
    gradient_accumulation: int = Field(1, ge=1, description="micro-batches per optimiser step")
    learning_rate: float = Field(3e-4, gt=0, description="of Adam")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="constant, or linear warm-up then half a cosine to zero"
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="share of all steps spent on warm-up (cosine)"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled (AdamW); 0 = plain Adam")
    gradient_clipping: float = Field(0.0, ge=0, description="largest gradient norm; 0 = off")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="bf16 = autocast, weights and optimiser stay fp32; auto = bf16 where the "
        "device computes it in hardware, else fp32",
    )
    zero_stage: Literal[0, 1, 2] = Field(
        1, description="ZeRO stage; on one rank there is nothing to shard and 0 is used"
    )
    seed: int = Field(0, ge=0, description="of initial weights, sampling order and dropout")
    loss: Literal["latent", "volume"] = Field(
        "latent", description="Transformer: error of tokens, or of decoded volumes (paper)"
    )
    loss_volumes: int | None = Field(
        None,
        ge=1,
        description="volume loss: volumes per window that are decoded, drawn at random; null = all",
    )
    select_by: Literal["loss", "r_region"] = Field(
        "r_region",
        description="best model on validation subjects: lowest free-running loss, or highest "
        "temporal correlation of regional means",
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    validation_windows: int | None = Field(
        None, ge=1, description="at most so many windows per recording in a validation; null = all"
    )
    checkpoint_every: int = Field(1, ge=1, description="epochs between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept beside the best")


class TrainConfig(Schema):
    """`launch/train.py`: one training of one model."""

    store: Path = Field(description="HDF5 store of `launch/preprocess.py`")
    output: Path = Field(description="run folder; the same command on it resumes the run")
    recipe: Literal["own", "paper"] = Field(
        "own", description="name of the recipe in reports; the keys below make it"
    )
    model: ModelConfig = Field(description="architecture: cae, transformer or unet, with")
    tokeniser: Path | PrincipalComponentsConfig | None = Field(
        None,
        description="Transformer: run folder of the CAE whose tokens it learns, or principal "
        "components of the training volumes, with",
    )
    data: DataConfig = Field(DataConfig(), description="samples -> windows")
    split: SplitConfig = Field(SplitConfig(), description="subjects -> train, validation, test")
    optimisation: OptimisationConfig = Field(OptimisationConfig(), description="training steps")
    world_size: int | None = Field(
        None, ge=1, description="ranks that must be there; null = as many as were started"
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads per rank; null = cores divided by ranks of the node"
    )
    deepspeed: dict[str, Any] = Field(
        {}, description="merged over the derived DeepSpeed config, for experts"
    )

    @model_validator(mode="after")
    def _transformer_has_tokens(self) -> TrainConfig:
        if (self.model.name == "transformer") != (self.tokeniser is not None):
            raise ValueError("tokeniser is required for a transformer, and only for one")
        return self
