"""What each model is trained on: batch -> loss, and how it predicts volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.windows import Field
from eeg2fmri_dist.models.cae import ConvolutionalAutoencoder
from eeg2fmri_dist.models.ensemble import Ensemble
from eeg2fmri_dist.models.ridge import RidgeRegression
from eeg2fmri_dist.models.transformer import TransformerCNN
from eeg2fmri_dist.models.unet import UNet

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class TokenLoss:
    """What a Transformer's training lowers.

    Attributes
    ----------
    of : str
        ``latent``: the error of tokens; ``volume``: of the volumes that they decode to (paper).
    n_volumes : int or None
        Volumes of a window that are decoded, drawn at random; None = all.
    """

    of: Literal["latent", "volume"] = "latent"
    n_volumes: int | None = None


class Objective(nn.Module):
    """A model with its loss; what the engine wraps.

    Parameters
    ----------
    model : nn.Module
        Architecture.
    mask : Tensor of bool, shape (x, y, z), or None
        Voxels that the volume error is averaged over; None = the whole grid (paper).

    Attributes
    ----------
    fields : tuple of str
        What a training batch holds.
    predicts_from : tuple of str
        What `predict` needs.
    """

    fields: ClassVar[tuple[Field, ...]]
    predicts_from: ClassVar[tuple[Field, ...]] = ("eeg",)
    mask: Tensor | None

    def __init__(self, model: nn.Module, mask: Tensor | None):
        super().__init__()
        self.model = model
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, batch: Batch, weight: float) -> Tensor:
        """Return the mean squared error of a batch, times `weight`."""
        return weight * self.error(batch)

    def error(self, batch: Batch) -> Tensor:
        """Mean squared error that training lowers."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Return the normalized volumes (batch, T, x, y, z) that the model makes by itself."""
        raise NotImplementedError

    def volume_error(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Mean squared error over the voxels that count."""
        if self.mask is None:
            return F.mse_loss(predicted.float(), true)
        counted = self.mask.sum() * math.prod(predicted.shape[:-3])
        return _SquaresInMask.apply(predicted, true.float(), self.mask) / counted


class _SquaresInMask(torch.autograd.Function):
    """Sum of squared differences in a mask.

    Volumes are large and operations on them few, so each pass over memory counts: the same in
    torch's differentiable operations takes 1.7 times as long.
    """

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        difference = (predicted - true).mul_(mask)
        ctx.save_for_backward(difference)
        return difference.square().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        return difference * (2 * gradient), None, None


class Reconstruction(Objective):
    """CAE: volumes in, the same volumes out."""

    fields = ("bold",)
    predicts_from = ("bold",)
    model: ConvolutionalAutoencoder

    def error(self, batch: Batch) -> Tensor:
        """See `Objective`."""
        return self.volume_error(self.predict(batch), batch["bold"])

    def predict(self, batch: Batch) -> Tensor:
        """Return the reconstruction; the CAE is the one model that sees the true volumes."""
        volumes = batch["bold"]
        return self.model(volumes.flatten(0, 1)).unflatten(0, volumes.shape[:2])


class Translation(Objective):
    """U-Net and ridge regression: EEG of a TR and of those before it in, volume out."""

    fields = ("eeg", "bold")
    model: UNet | RidgeRegression

    def error(self, batch: Batch) -> Tensor:
        """See `Objective`."""
        return self.volume_error(self.predict(batch), batch["bold"])

    def predict(self, batch: Batch) -> Tensor:
        """Volumes from EEG alone."""
        return self.model(batch["eeg"])


class TokenGeneration(Objective):
    """Transformer-CNN: teacher-forced in training, free-running in prediction.

    Parameters
    ----------
    model : TransformerCNN
        With its tokenizer.
    mask : Tensor or None
        See `Objective`.
    loss : TokenLoss
        What training lowers; it does not matter in prediction.
    """

    model: TransformerCNN

    def __init__(self, model: TransformerCNN, mask: Tensor | None, loss: TokenLoss):
        super().__init__(model, mask)
        self._loss = loss

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        """Cached tokens stand for volumes where nothing needs the volumes themselves."""
        if self.model.config.train_tokenizer:
            return ("eeg", "bold")
        if self._loss.of == "volume":
            return ("eeg", "tokens", "bold")
        return ("eeg", "tokens")

    def error(self, batch: Batch) -> Tensor:
        """Error of tokens, or of the volumes that they decode to."""
        tokens = self._tokens(batch)
        keep = torch.rand(tokens.shape[:2]) < self.model.config.teacher_forcing_ratio
        predicted = self.model.eeg_to_tokens(batch["eeg"], tokens, keep.to(tokens.device))
        if self._loss.of == "latent":
            return (predicted.float() - tokens).square().mean()
        chosen = self._chosen_volumes(predicted.shape[1])
        volumes = self.model.decode_tokens(predicted[:, chosen])
        return self.volume_error(volumes, batch["bold"][:, chosen])

    def predict(self, batch: Batch) -> Tensor:
        """Volumes from EEG alone: the model's own tokens are fed back."""
        eeg = batch["eeg"]
        return self.model.generate_volumes(eeg, eeg.shape[1] - self.model.eeg_to_tokens.context)

    def predict_teacher_forced(self, batch: Batch) -> Tensor:
        """Volumes from EEG and all true volumes before each."""
        tokens = self._tokens(batch)
        return self.model.decode_tokens(self.model.eeg_to_tokens(batch["eeg"], tokens))

    def _tokens(self, batch: Batch) -> Tensor:
        return batch["tokens"] if "tokens" in batch else self.model.encode_volumes(batch["bold"])

    def _chosen_volumes(self, n_volumes: int) -> Tensor | slice:
        wanted = self._loss.n_volumes
        if wanted is None or wanted >= n_volumes:
            return slice(None)
        return torch.randperm(n_volumes)[:wanted].sort().values


class Averaging(Objective):
    """Ensemble: the mean of what its members predict.

    Parameters
    ----------
    model : Ensemble
        With its members.
    mask : Tensor or None
        See `Objective`.
    """

    fields = ("eeg", "bold")
    model: Ensemble

    def __init__(self, model: Ensemble, mask: Tensor | None):
        super().__init__(model, mask)
        # Not as modules: their models are those of the ensemble.
        self._members = [make_objective(member, None) for member in model.members]

    def error(self, batch: Batch) -> Tensor:
        """See `Objective`."""
        return self.volume_error(self.predict(batch), batch["bold"])

    def predict(self, batch: Batch) -> Tensor:
        """Volumes from EEG alone."""
        return torch.stack([member.predict(batch) for member in self._members]).mean(dim=0)


def counted_voxels(mask: np.ndarray, data: DataConfig) -> Tensor | None:
    """Return the voxels (x, y, z) that an error is averaged over; None = the whole grid (paper)."""
    return torch.from_numpy(mask.astype(bool)) if data.normalize == "voxelwise" else None


def make_objective(
    model: nn.Module, mask: Tensor | None, token_loss: TokenLoss = TokenLoss()
) -> Objective:
    """Return the objective that belongs to a model.

    Parameters
    ----------
    model : nn.Module
    mask : Tensor or None
        See `Objective`.
    token_loss : TokenLoss
        Of a Transformer that is trained.
    """
    if isinstance(model, TransformerCNN):
        return TokenGeneration(model, mask, token_loss)
    if isinstance(model, Ensemble):
        return Averaging(model, mask)
    if isinstance(model, UNet | RidgeRegression):
        return Translation(model, mask)
    assert isinstance(model, ConvolutionalAutoencoder)
    return Reconstruction(model, mask)
