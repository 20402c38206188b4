"""A trained model as one safetensors file: weights, scaling, a card of what it expects."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from eeg2fmri_dist.config import with_current_names
from eeg2fmri_dist.config.model import ModelConfig, TokenizerConfig
from eeg2fmri_dist.config.names.former_names import CARD_SECTIONS, current_tensor
from eeg2fmri_dist.config.preprocess import EegConfig, PreprocessConfig
from eeg2fmri_dist.config.train import DataConfig, TrainConfig
from eeg2fmri_dist.data.normalization import Scaling
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.models.build import DataSizes, build_model
from eeg2fmri_dist.models.ensemble import Ensemble
from eeg2fmri_dist.models.shapes import describe_misfit

CARD_VERSION = 2
_SCALING_PREFIX = "scaling."
_MASK = "mask"


@dataclass(frozen=True)
class ModelCard:
    """What a model expects and where it comes from; JSON values only.

    Attributes
    ----------
    recipe : str
        own or paper.
    model, tokenizer, data : dict
        Config sections; `tokenizer` is None but for a Transformer. `model` of an ensemble has
        both of each of its members.
    preprocessing : dict
        Resolved preprocessing config of the store.
    channel_names, frequencies_hz : list
        EEG features in order.
    tr_s : float
        Repetition time in s.
    affine : list of list of float
        Grid of the volumes -> MNI mm.
    space : str
        Name of the template space.
    store_fingerprint : str
        Of the store that it was trained on.
    subjects : dict
        Subjects of train, validation and test.
    step, epoch : int
        Where in the training it was saved.
    """

    recipe: str
    model: dict[str, Any]
    tokenizer: dict[str, Any] | None
    data: dict[str, Any]
    preprocessing: dict[str, Any]
    channel_names: list[str]
    frequencies_hz: list[float]
    tr_s: float
    affine: list[list[float]]
    space: str
    store_fingerprint: str
    subjects: dict[str, list[str]]
    step: int = 0
    epoch: int = 0
    version: int = CARD_VERSION


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to predict, with what turns its output into volumes."""

    model: nn.Module
    card: ModelCard
    scaling: Scaling
    mask: np.ndarray

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels of its volumes along x, y and z."""
        x, y, z = self.mask.shape
        return x, y, z

    @property
    def data(self) -> DataConfig:
        """How its inputs are normalized."""
        return DataConfig.model_validate(self.card.data)

    @property
    def eeg(self) -> EegConfig:
        """How the EEG of its training data was preprocessed.

        Raises
        ------
        CheckpointError
            If the store that it was trained on did not say so.
        """
        try:
            return EegConfig.model_validate(self.card.preprocessing["eeg"])
        except (KeyError, ValueError):
            raise CheckpointError(
                "the store that the model was trained on does not say how its EEG was preprocessed",
                remedy="train on a store of launch/preprocess.py of this version",
            ) from None


def save_model(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    card: ModelCard,
    scaling: Scaling,
    mask: np.ndarray,
) -> None:
    """Write weights, scaling, mask and card to one safetensors file."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    for name, value in asdict(scaling).items():
        tensors[_SCALING_PREFIX + name] = torch.as_tensor(np.asarray(value))
    tensors[_MASK] = torch.from_numpy(mask)
    save_file(tensors, str(path), metadata={"card": json.dumps(asdict(card))})


def load_model(path: Path) -> TrainedModel:
    """Read a file of `save_model` and build its model, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file cannot be read or its weights do not fit the model that its card describes.
    """
    tensors, card = _read(path)
    try:
        mask = tensors.pop(_MASK).numpy()
        scaling = Scaling(
            **{
                field.name: _plain(tensors.pop(_SCALING_PREFIX + field.name))
                for field in fields(Scaling)
            }
        )
        _check_card(card, scaling, mask)
        # Without memory: a card can claim any size.
        with torch.device("meta"), _NoInitialValues():
            shapes = _shapes(_build(card, mask, tensors).state_dict())
        misfit = describe_misfit(_shapes(tensors), shapes)
    except (KeyError, ValueError, TypeError) as error:
        raise _unusable(path, error) from None
    if misfit is not None:
        raise CheckpointError(
            f"weights do not fit the model that their card describes ({misfit})",
            where=path,
            remedy="train again with this version",
        )
    model = _build(card, mask, tensors)
    model.load_state_dict(tensors)
    return TrainedModel(model.eval(), card, scaling, mask)


def _check_card(card: ModelCard, scaling: Scaling, mask: np.ndarray) -> None:
    """Refuse what would fail, or write elsewhere, only after the work.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    # Part of file names.
    if not re.fullmatch(r"[A-Za-z0-9]+", card.space):
        raise ValueError(f"its space is called {card.space!r}")
    if not 0 < card.tr_s < math.inf:
        raise ValueError(f"its TR is {card.tr_s} s")
    affine = np.array(card.affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("its affine is not a finite 4 x 4 matrix")
    features = (len(card.channel_names), len(card.frequencies_hz))
    expected = {"reference": mask.shape, "fraction": mask.shape}
    expected |= {"eeg_mean": features, "eeg_std": features}
    for name, shape in expected.items():
        found = np.shape(getattr(scaling, name))
        if found != shape:
            raise ValueError(f"scaling.{name} is {found}, its card says {shape}")


class _NoInitialValues(TorchFunctionMode):
    """Leave weights as they are allocated.

    Drawing them without memory would load torch's compiler first, which takes seconds.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _build(card: ModelCard, mask: np.ndarray, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Model of a card, without its weights."""
    if card.model["name"] != "ensemble":
        return _build_one(card, mask, tensors)
    members = [replace(card, **member) for member in card.model["members"]]
    if any(member.model["name"] == "ensemble" for member in members):
        raise ValueError("an ensemble of ensembles")
    return Ensemble(
        [
            _build_one(member, mask, _of_member(tensors, number))
            for number, member in enumerate(members)
        ]
    )


def _of_member(tensors: Mapping[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    prefix = f"members.{number}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _build_one(card: ModelCard, mask: np.ndarray, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    x, y, z = mask.shape
    num_targets = len(tensors["intercept"]) if card.model["name"] == "ridge" else None
    return build_model(
        TypeAdapter(ModelConfig).validate_python(card.model),
        card.tokenizer and TypeAdapter(TokenizerConfig).validate_python(card.tokenizer),  # type: ignore[arg-type]
        DataSizes(
            grid=(x, y, z),
            num_channels=len(card.channel_names),
            num_frequencies=len(card.frequencies_hz),
            context=DataConfig.model_validate(card.data).context,
            tr_s=card.tr_s,
            num_targets=num_targets,
        ),
    )


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _read(path: Path) -> tuple[dict[str, torch.Tensor], ModelCard]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            card = json.loads((file.metadata() or {})["card"])
            names = list(file.keys())
            tensors = {current_tensor(name): file.get_tensor(name) for name in names}
        if card["version"] not in (1, CARD_VERSION):
            raise CheckpointError(
                f"model card version {card['version']}, this version reads 1 and {CARD_VERSION}",
                where=path,
                remedy="train again with this version",
            )
        return tensors, ModelCard(**_under_current_names(card))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _unusable(path, error) from None


def _under_current_names(card: dict[str, Any]) -> dict[str, Any]:
    """Sections of a card that an earlier version wrote, by today's keys."""
    trained = {key: value for key, value in card.items() if key in CARD_SECTIONS}
    named = with_current_names(TrainConfig, trained)[0]
    if "members" in named["model"]:
        members = [with_current_names(TrainConfig, each)[0] for each in named["model"]["members"]]
        named["model"] = {**named["model"], "members": members}
    return {
        **{key: value for key, value in card.items() if key not in CARD_SECTIONS},
        **named,
        "preprocessing": with_current_names(PreprocessConfig, card["preprocessing"])[0],
        "version": CARD_VERSION,
    }


def _unusable(path: Path, error: Exception) -> CheckpointError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return CheckpointError(
        f"not a model of this suite, or damaged ({reason})",
        where=path,
        remedy="give a run folder of launch/train.py",
    )


def _plain(tensor: torch.Tensor) -> Any:
    return tensor.item() if tensor.ndim == 0 else tensor.numpy()
