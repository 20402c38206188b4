"""Config of training: data, split, model, optimization, where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from eeg2fmri_dist.config.base import MAX_THREADS, Schema, SubjectId
from eeg2fmri_dist.config.model import ModelConfig, PrincipalComponentsConfig
from eeg2fmri_dist.config.monitor import MonitorConfig
from eeg2fmri_dist.config.names import former_names
from eeg2fmri_dist.config.without_effect import WithoutEffect, given, unread

_KEYS_BEHIND_DEEPSPEED_NAMES = {
    "bf16": "engine.precision",
    "fp16": "engine.precision",
    "torch_autocast": "engine.precision",
    "gradient_accumulation_steps": "engine.gradient_accumulation",
    "gradient_clipping": "optimization.gradient_clipping",
    "optimizer": "optimization",
    "scheduler": "optimization.schedule",
    "train_batch_size": "optimization.batch_size",
    "train_micro_batch_size_per_gpu": "optimization.batch_size",
}


# Steps of an optimizer are what they are about.
_OF_STEPS = (
    "data.stride",
    "deepspeed",
    "engine.",
    "optimization.",
    "checkpoints.every_epochs",
    "checkpoints.every_steps",
    "checkpoints.asynchronous",
    "monitor.every_steps",
    "monitor.profile",
    "watchdog.gradient_growth",
    "watchdog.steps_in_a_row",
    "watchdog.rewinds",
)
_OF_VALIDATION = ("optimization.checkpoint_metric", "optimization.validation_windows")


class DataConfig(Schema):
    """How samples of the store become windows of numbers that a model sees."""

    renamed = former_names.DATA

    normalize: Literal["voxelwise", "global"] = Field(
        "voxelwise",
        description="BOLD target: temporal z-score of each voxel of a recording, or (paper) one "
        "mean and deviation of all training volumes",
    )
    detrend_order: int = Field(
        2,
        ge=0,
        le=5,
        description="voxelwise: degree of the polynomial that is removed from each voxel's time "
        "course, about one for every two minutes",
    )
    eeg_scale: Literal["log", "power", "auto"] = Field(
        "log",
        description="EEG features: log power, or power as stored; auto = the one from which ridge "
        "regression predicts validation subjects better (ridge, a Transformer with skip_from, "
        "an ensemble of them)",
    )
    eeg_normalize: Literal["recording", "global"] = Field(
        "recording",
        description="EEG z-score per recording, or with statistics of the training subjects",
    )
    window: int = Field(32, ge=1, description="consecutive TRs of one training window")
    stride: int = Field(8, ge=1, description="TRs between the starts of training windows")
    context: int = Field(
        10, ge=0, description="EEG TRs before a window (hemodynamic delay); zeros before a run"
    )
    cache: Literal["auto", "device", "ram", "mapped"] = Field(
        "auto",
        description="normalized volumes kept on the device that trains, in RAM, or made from the "
        "mapped store when read; auto = the first of a GPU and RAM of which a quarter of the free "
        "memory suffices",
    )


class SplitConfig(Schema):
    """Which recordings train, which choose the model, which are only scored."""

    renamed = former_names.DISCRIMINATOR

    name: Literal["by_subject", "leave_one_subject_out", "k_fold", "by_sample"] = Field(
        "by_subject", description="by_sample mixes windows of one subject: it leaks"
    )
    fractions: tuple[float, float, float] = Field(
        (0.5, 0.25, 0.25), description="train, validation, test"
    )
    seed: int | None = Field(
        None, ge=0, description="shuffles subjects before the split; null keeps their order"
    )
    train_subjects: int | None = Field(
        None,
        ge=1,
        description="only so many of the training subjects, the first; null = all. The others are "
        "left out, so that learning curves have the same validation and test subjects",
    )
    test_subject: SubjectId | None = Field(
        None, description="leave_one_subject_out: the subject that is left out"
    )
    folds: int | None = Field(
        None, ge=2, description="k_fold: into how many groups subjects are divided"
    )
    fold: int | None = Field(None, ge=0, description="k_fold: the group that is left out, from 0")

    @model_validator(mode="after")
    def _is_complete(self) -> SplitConfig:
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"split.fractions are positive and add up to 1, got {self.fractions}")
        if self.name == "by_sample" and self.train_subjects is not None:
            raise ValueError("split.train_subjects: by_sample divides samples, not subjects")
        if self.name == "leave_one_subject_out" and self.test_subject is None:
            raise ValueError("split.test_subject is required for leave_one_subject_out")
        if self.name == "k_fold":
            if self.folds is None or self.fold is None:
                raise ValueError("split.folds and split.fold are required for k_fold")
            if self.fold >= self.folds:
                raise ValueError(f"split.fold = {self.fold} is not below folds = {self.folds}")
        return self

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of other kinds; of by_subject, a forgotten kind would score other subjects."""
        keys, leaves_out = given(self), self.name in ("k_fold", "leave_one_subject_out")
        if self.name != "k_fold":
            kind = "split.name: k_fold"
            yield from unread(keys, kind, "folds", "fold", is_mistake=not leaves_out)
        if self.name != "leave_one_subject_out":
            kind = "split.name: leave_one_subject_out"
            yield from unread(keys, kind, "test_subject", is_mistake=not leaves_out)
        if self.name == "by_sample":
            yield from unread(keys, "splits of subjects", "seed")


class OptimizationConfig(Schema):
    """Steps that change the weights."""

    renamed = former_names.OPTIMIZATION

    epochs: int = Field(100, ge=1, description="passes over the training windows")
    batch_size: int = Field(
        16, ge=1, description="windows per optimizer step, over all ranks together"
    )
    learning_rate: float = Field(3e-4, gt=0, description="of Adam")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="constant, or warm-up then a line or half a cosine to the end"
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="share of all steps spent on warm-up (linear, cosine)"
    )
    final_fraction: float = Field(
        0.0, ge=0, le=1, description="learning rate at the end, as a share of learning_rate"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled (AdamW); 0 = plain Adam")
    gradient_clipping: float = Field(0.0, ge=0, description="largest gradient norm; 0 = off")
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="moving average of the weights, with this decay per step, is what is scored, "
        "saved and used; null = the weights of the last step",
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
    checkpoint_metric: Literal["loss", "r_region"] = Field(
        "r_region",
        description="best model on validation subjects: lowest free-running loss, or highest "
        "temporal correlation of regional means",
    )
    min_improvement_se: float = Field(
        1.0,
        ge=0,
        description="a model that starts at ridge regression leaves its start only for a gain of "
        "more than so many standard errors (paired, over validation subjects); 0 = for any gain",
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    validation_windows: int | None = Field(
        None, ge=1, description="at most so many windows per recording in a validation; null = all"
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="end after so many validations in a row without a better score; null = never",
    )

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of the other schedules and of the other loss."""
        keys = given(self)
        if self.schedule == "constant":
            changing = "optimization.schedule: linear or cosine"
            yield from unread(keys, changing, "warmup_fraction", "final_fraction")
        if self.loss == "latent":
            yield from unread(keys, "optimization.loss: volume", "loss_volumes")


class EngineConfig(Schema):
    """How the steps are computed. All but precision may change when a run is resumed."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="bf16, fp16 (with loss scaling) = autocast, weights and optimizer stay fp32; "
        "auto = bf16 where the device computes it in hardware, else fp32",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        1, description="ZeRO stage; on one rank without offload nothing is sharded and 0 is used"
    )
    gradient_accumulation: int = Field(1, ge=1, description="micro-batches per optimizer step")
    offload_optimizer: bool = Field(
        False, description="keep optimizer states in the memory of the host (ZeRO 1-3)"
    )
    offload_parameters: bool = Field(
        False, description="keep weights in the memory of the host (ZeRO 3)"
    )
    activation_checkpointing: bool = Field(
        False, description="recompute activations of each block in the backward pass: less memory"
    )
    fused_adam: bool = Field(
        False,
        description="torch's fused Adam: faster, and equal to the default one only to rounding",
    )
    compile: bool = Field(False, description="torch.compile; on a CPU it needs a C++ compiler")
    channels_last: bool = Field(
        False, description="convolutions with the channel as the last axis in memory"
    )

    @model_validator(mode="after")
    def _options_agree(self) -> EngineConfig:
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("engine.offload_optimizer needs engine.zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("engine.offload_parameters needs engine.zero_stage 3")
        if self.compile and self.zero_stage == 3:
            raise ValueError("engine.compile cannot be combined with engine.zero_stage 3")
        return self


class CheckpointConfig(Schema):
    """When checkpoints are written and which are kept."""

    every_epochs: int = Field(1, ge=1, description="epochs between checkpoints")
    every_steps: int | None = Field(
        None, ge=1, description="optimizer steps between checkpoints within an epoch; null = none"
    )
    keep: int = Field(2, ge=1, description="newest checkpoints kept beside the best")
    asynchronous: bool = Field(
        False, description="copy the state, then write it while training goes on"
    )


class WatchdogConfig(Schema):
    """What ends a training that has gone wrong (exit code 5)."""

    gradient_growth: float = Field(
        1000.0,
        gt=1,
        description="a gradient norm so many times its recent median, steps_in_a_row times",
    )
    steps_in_a_row: int = Field(
        5, ge=1, description="exploding or skipped (fp16 overflow) steps in a row that end it"
    )
    stall_timeout_s: float = Field(
        600.0, gt=0, description="seconds without progress of a rank until it is named and all end"
    )
    rewinds: int = Field(
        0,
        ge=0,
        description="times that training goes back to the last checkpoint and skips the batch "
        "that broke it, before it ends",
    )


class TrainConfig(Schema):
    """`launch/train.py`: one training of one model."""

    renamed = former_names.TRAIN

    store: Path = Field(description="HDF5 store of `launch/preprocess.py`")
    output: Path = Field(description="run folder; the same command on it resumes the run")
    recipe: Literal["default", "paper"] = Field(
        "default", description="name of the recipe in reports; the keys below make it"
    )
    model: ModelConfig = Field(
        description="architecture: cae, transformer, unet, ridge or ensemble, with"
    )
    tokenizer: Path | PrincipalComponentsConfig | None = Field(
        None,
        description="Transformer: run folder of the CAE whose tokens it learns, or principal "
        "components of the training volumes, with",
    )
    data: DataConfig = Field(DataConfig(), description="samples -> windows")
    split: SplitConfig = Field(SplitConfig(), description="subjects -> train, validation, test")
    optimization: OptimizationConfig = Field(OptimizationConfig(), description="training steps")
    engine: EngineConfig = Field(EngineConfig(), description="precision, ZeRO, memory")
    checkpoints: CheckpointConfig = Field(CheckpointConfig(), description="saving")
    watchdog: WatchdogConfig = Field(WatchdogConfig(), description="what ends a broken training")
    monitor: MonitorConfig = Field(MonitorConfig(), description="what a run tells of itself")
    world_size: int | None = Field(
        None, ge=1, description="ranks that must be there; null = as many as were started"
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=MAX_THREADS,
        description="CPU threads per rank; null = cores divided by ranks of the node",
    )
    deepspeed: dict[str, Any] = Field(
        {},
        description="merged over the derived DeepSpeed config, for experts; --print-config shows "
        "the result",
    )

    @field_validator("deepspeed")
    @classmethod
    def _leaves_to_the_suite_what_is_its_own(cls, deepspeed: dict[str, Any]) -> dict[str, Any]:
        for name in deepspeed:
            if name in _KEYS_BEHIND_DEEPSPEED_NAMES:
                raise ValueError(
                    f"{name} follows from {_KEYS_BEHIND_DEEPSPEED_NAMES[name]}: set that"
                )
        return deepspeed

    @model_validator(mode="after")
    def _transformer_has_tokens(self) -> TrainConfig:
        if (self.model.name == "transformer") != (self.tokenizer is not None):
            raise ValueError("tokenizer is required for a transformer, and only for one")
        return self

    @model_validator(mode="after")
    def _eeg_scale_can_be_chosen(self) -> TrainConfig:
        known = self.model.name in ("ridge", "ensemble") or getattr(self.model, "skip_from", None)
        if self.data.eeg_scale == "auto" and not known:
            raise ValueError(
                "data.eeg_scale: auto is the choice of ridge regression: set model.skip_from to "
                "such a run, or choose log or power"
            )
        return self

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys that the chosen model does not read."""
        keys = given(self)
        if self.model.name in ("ridge", "ensemble"):
            steps = {key: value for key, value in keys.items() if key not in _OF_VALIDATION}
            yield from unread(steps, "models that are trained in steps", *_OF_STEPS)
        if self.model.name == "ridge":
            yield from unread(keys, "models other than ridge", "data.cache")
        yield from self._of_transformers(keys)

    def _of_transformers(self, keys: dict[str, Any]) -> Iterator[WithoutEffect]:
        is_transformer = self.model.name == "transformer"
        if not is_transformer:
            of_loss = ("optimization.loss", "optimization.loss_volumes")
            yield from unread(keys, "model.name: transformer", *of_loss, is_mistake=True)
        if getattr(self.model, "skip_from", None) is None:
            start = "a Transformer with model.skip_from"
            is_mistake = not is_transformer
            yield from unread(keys, start, "optimization.min_improvement_se", is_mistake=is_mistake)
