"""Config sections of the models: what a user may choose; all other sizes come from the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from eeg2fmri_dist.config.base import Schema
from eeg2fmri_dist.config.names import former_names

Width = Annotated[int, Field(ge=8, multiple_of=8)]
PatchSide = Annotated[int, Field(ge=1)]


class CaeConfig(Schema):
    """Convolutional autoencoder: one volume <-> one token."""

    name: Literal["cae"] = Field("cae", description="kind of model")
    d_token: int = Field(256, ge=1, description="numbers per volume token")
    widths: tuple[Width, ...] = Field(
        (16, 32, 64),
        min_length=1,
        description="feature maps per level, the grid halves between levels; multiples of 8",
    )
    patch: tuple[PatchSide, PatchSide, PatchSide] = Field(
        (4, 4, 3), description="voxels (x, y, z) that the first convolution merges into one"
    )


class PrincipalComponentsConfig(Schema):
    """Principal components of the training volumes: one volume <-> one token."""

    name: Literal["principal_components"] = Field(
        "principal_components", description="kind of model"
    )
    d_token: int = Field(64, ge=1, description="components, that is numbers per volume token")


class TransformerConfig(Schema):
    """Transformer that turns EEG into volume tokens."""

    renamed = former_names.TRANSFORMER

    name: Literal["transformer"] = Field("transformer", description="kind of model")
    d_model: int = Field(256, ge=2, multiple_of=2, description="width of the layers")
    num_heads: int = Field(4, ge=1, description="attention heads; must divide d_model")
    layers: int = Field(2, ge=1, description="layers of the encoder, and of the decoder")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout inside the layers")
    eeg_dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="share of EEG features (a frequency of a channel) that are hidden in training, "
        "each for a whole window: the main guard against overfitting",
    )
    hrf_front_end: bool = Field(
        True,
        description="filter EEG features over time by trainable kernels that start as the "
        "canonical hemodynamic response and two shifted copies; false = the paper",
    )
    linear_skip: bool = Field(
        True, description="add a linear map of the EEG features to the output; false = the paper"
    )
    skip_from: Path | None = Field(
        None,
        description="run folder of ridge regression, trained on the same subjects, that the linear "
        "skip starts at; the rest starts at 0, so that training starts at ridge's prediction",
    )
    skip_quadratic: bool = Field(
        False,
        description="the skip has the squares and products of band power, too, of a ridge run "
        "with model.quadratic",
    )
    positions: Literal["relative", "sinusoidal"] = Field(
        "relative", description="learned bias per distance in TRs, or sinusoids as in the paper"
    )
    causal_eeg: bool = Field(
        True, description="volume t sees no EEG later than the windows of its own TR"
    )
    attention_span: int | None = Field(
        None, ge=1, description="TRs that attention reaches back, its own included; null = all"
    )
    teacher_forcing_ratio: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of true previous tokens shown in training; 1 = the paper; 0 = none, "
        "in training and in generation",
    )
    train_tokenizer: bool = Field(
        False, description="train the volume tokenizer too, instead of keeping it as it is"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TransformerConfig:
        if self.d_model % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} must divide d_model = {self.d_model}")
        if self.skip_from is not None and not (self.linear_skip and self.hrf_front_end):
            raise ValueError(
                "skip_from needs linear_skip and hrf_front_end, which ridge is made of"
            )
        if self.skip_quadratic and self.skip_from is None:
            raise ValueError("skip_quadratic needs skip_from, a ridge run with model.quadratic")
        return self


class UNetConfig(Schema):
    """3-D U-Net from the EEG of a few TRs to a volume."""

    name: Literal["unet"] = Field("unet", description="kind of model")
    d_eeg: int = Field(128, ge=1, description="numbers that the EEG of one TR is reduced to")
    widths: tuple[Width, ...] = Field(
        (32, 64, 128),
        min_length=2,
        description="feature maps per level, the grid halves between levels; multiples of 8",
    )
    patch: tuple[PatchSide, PatchSide, PatchSide] = Field(
        (4, 4, 3), description="voxels (x, y, z) that one cell of the finest level stands for"
    )
    eeg_dropout: float = Field(0.5, ge=0, lt=1, description="dropout of EEG features")


class RidgeConfig(Schema):
    """Ridge regression on band power through the HRF, fitted in closed form.

    Of `optimization` it uses what is said of validation alone, and nothing of `engine`.
    """

    renamed = former_names.RIDGE

    name: Literal["ridge"] = Field("ridge", description="kind of model")
    targets: Literal["voxels", "regions"] = Field(
        "voxels",
        description="weights for each voxel of the mask, or for each region of the store's first "
        "atlas, whose voxels then all get its mean",
    )
    quadratic: bool = Field(
        False,
        description="also squares of each channel's band power and products of its bands, after "
        "the hemodynamic response; validation subjects choose how much they may count, if at all",
    )


class EnsembleConfig(Schema):
    """Mean of the predictions of trained models, such as one recipe with several seeds.

    Nothing is trained: of `optimization` it uses what is said of validation alone.
    """

    name: Literal["ensemble"] = Field("ensemble", description="kind of model")
    members: list[Path] = Field(
        min_length=2,
        description="run folders of transformers, U-Nets or ridge regressions of the same store, "
        "split and data section",
    )


TokenizerConfig = Annotated[CaeConfig | PrincipalComponentsConfig, Field(discriminator="name")]
ModelConfig = Annotated[
    CaeConfig | TransformerConfig | UNetConfig | RidgeConfig | EnsembleConfig,
    Field(discriminator="name"),
]
