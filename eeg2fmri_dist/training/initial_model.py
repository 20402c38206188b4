"""The model that a training starts with: built, given parts of other runs, described by a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eeg2fmri_dist.config.model import CaeConfig, PrincipalComponentsConfig, TransformerConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.splits import PARTS, Split, make_split
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.inference.model_file import ModelCard, TrainedModel, load_model
from eeg2fmri_dist.inference.objectives import Objective, TokenLoss, counted_voxels, make_objective
from eeg2fmri_dist.inference.weights import resolve_weights, weights_sha256
from eeg2fmri_dist.models.build import build_model
from eeg2fmri_dist.models.ridge import RidgeRegression
from eeg2fmri_dist.models.transformer import TransformerCNN
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.split_data import SplitData
from eeg2fmri_dist.training.batches.tokens import TokenCache, prepare_tokens
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.ridge_start import start_at_ridge
from eeg2fmri_dist.training.store_facts import store_sizes

# Of the data section: how the EEG looks that a model was made for.
_EEG_KEYS = ("eeg_scale", "eeg_normalize")


def make_model(
    config: TrainConfig,
    store: Store,
    data: SplitData,
    session: Session,
) -> tuple[torch.nn.Module, dict[str, Any] | None]:
    """Build the model of a training; a Transformer gets its tokenizer, and the data their tokens.

    Parameters
    ----------
    config : TrainConfig
        What is trained.
    store : Store
        What it is trained on.
    data : SplitData
        Gets its tokens.
    session : Session
        Its device computes tokens; the first rank writes their cache.

    Returns
    -------
    nn.Module
        With initial weights; the tokenizer with those that it was trained to.
    dict or None
        Config of the tokenizer, for the card.

    Raises
    ------
    CheckpointError
        If tokenizer or ridge regression do not fit (see `load_tokenizer`, `load_ridge`).
    """
    sizes = store_sizes(store, config.data.context, config.model)
    if config.tokenizer is None:
        return build_model(config.model, None, sizes), None
    if isinstance(config.tokenizer, PrincipalComponentsConfig):
        tokenizer_config: CaeConfig | PrincipalComponentsConfig = config.tokenizer
        weights, cache = None, None
    else:
        trained = load_tokenizer(config.tokenizer, config, store)
        tokenizer_config = CaeConfig.model_validate(trained.card.model)
        weights = trained.model.state_dict()
        cache = TokenCache(
            config.tokenizer / "tokens",
            weights_sha256(resolve_weights(config.tokenizer, "best")),
            may_write=session.ranks.is_first,
        )
    model = build_model(config.model, tokenizer_config, sizes)
    assert isinstance(model, TransformerCNN)
    if weights is not None:
        assert isinstance(model.tokenizer, torch.nn.Module)
        model.tokenizer.load_state_dict(weights)
    prepare_tokens(model, data.train, data.validation, cache, session.device)
    if model.config.skip_from is not None:
        ridge = load_ridge(model.config.skip_from, config, store)
        start_at_ridge(model.to(session.device), ridge.to(session.device), data.train)
    return model, tokenizer_config.model_dump(mode="json")


def load_tokenizer(run: Path, config: TrainConfig, store: Store) -> TrainedModel:
    """Load a trained CAE; refuse one whose volumes are not those of this training.

    Raises
    ------
    CheckpointError
        If it is no CAE, or it was trained on another store, split or normalization.
    """
    trained = load_model(resolve_weights(run, "best"))
    _refuse_misfit(run, trained, config, store, as_part="tokenizer", wanted="cae")
    return trained


def load_ridge(run: Path, config: TrainConfig, store: Store) -> RidgeRegression:
    """Load ridge regression; refuse one that was not fitted to what this training sees.

    Raises
    ------
    CheckpointError
        If it is another model, or was fitted on another store, split or normalization, or with
        products that the skip does not have.
    """
    trained = load_model(resolve_weights(run, "best"))
    _refuse_misfit(
        run, trained, config, store, as_part="model.skip_from", wanted="ridge", keys=_EEG_KEYS
    )
    assert isinstance(trained.model, RidgeRegression)
    assert isinstance(config.model, TransformerConfig)
    found, needed = trained.model.products is not None, config.model.skip_quadratic
    if found != needed:
        raise CheckpointError(
            f"the model.skip_from does not fit: it was fitted {_with(found)} quadratic features, "
            f"the skip is {_with(needed)} them",
            where=run,
            remedy=f"set model.skip_quadratic={str(found).lower()}, or name a ridge run with "
            f"model.quadratic={str(needed).lower()}",
        )
    return trained.model


def _with(products: bool) -> str:
    return "with" if products else "without"


def load_member(run: Path, config: TrainConfig, store: Store) -> TrainedModel:
    """Load a model of an ensemble; refuse one that does not predict what the others do.

    Raises
    ------
    CheckpointError
        If it does not predict from EEG, is an ensemble, or was trained on another store, split or
        data section.
    """
    trained = load_model(resolve_weights(run, "best"))
    kind = trained.card.model["name"]
    wanted = kind if kind in ("transformer", "unet", "ridge") else "transformer, unet or ridge"
    keys = (*_EEG_KEYS, "window", "context")
    if trained.card.recipe != config.recipe:
        raise CheckpointError(
            f"the member does not fit: its recipe is {trained.card.recipe}, here it is "
            f"{config.recipe}",
            where=run,
            remedy=f"set recipe={trained.card.recipe}, or name runs of one recipe as members",
        )
    _refuse_misfit(run, trained, config, store, as_part="member", wanted=wanted, keys=keys)
    return trained


def _refuse_misfit(
    run: Path,
    trained: TrainedModel,
    config: TrainConfig,
    store: Store,
    *,
    as_part: str,
    wanted: str,
    keys: Sequence[str] = (),
) -> None:
    """Refuse another kind of model, or one of other data than those of this training."""
    card, theirs, ours = trained.card, trained.data, config.data
    keys = ("normalize", "detrend_order", *keys)
    split = make_split(store.recordings, config.split)
    subjects = make_card(config, store, split, None).subjects
    differences = {
        "model": (card.model["name"], wanted),
        "store": (card.store_fingerprint, store.fingerprint),
        **{f"data.{key}": (getattr(theirs, key), getattr(ours, key)) for key in keys},
        "training subjects": (card.subjects["train"], subjects["train"]),
    }
    for name, (found, needed) in differences.items():
        if found != needed:
            raise CheckpointError(
                f"the {as_part} does not fit: its {name} is {found}, here it is {needed}",
                where=run,
                remedy=f"train a model of kind {wanted} with the same store, split and data "
                f"section, and name its run folder as {as_part}",
            )
    chose = {*card.subjects["validation"]} & {*subjects["test"]}
    if chose and not split.leaks:
        raise CheckpointError(
            f"the {as_part} does not fit: it was chosen on {', '.join(sorted(chose))}, who are "
            "scored here",
            where=run,
            remedy=f"train it with the same split, and name its run folder as {as_part}",
        )


def make_card(
    config: TrainConfig, store: Store, split: Split, tokenizer: dict[str, Any] | None
) -> ModelCard:
    """Describe the model of a training for those who load it."""
    layout = store.layout
    return ModelCard(
        recipe=config.recipe,
        model=config.model.model_dump(mode="json"),
        tokenizer=tokenizer,
        data=config.data.model_dump(mode="json"),
        preprocessing=layout.settings,
        channel_names=list(layout.channel_names),
        frequencies_hz=[float(frequency) for frequency in layout.frequencies_hz],
        tr_s=store.recordings[0].tr_s,
        affine=layout.affine.tolist(),
        space=layout.space,
        store_fingerprint=store.fingerprint,
        subjects={
            part: sorted({store.recordings[s.recording].subject for s in split.part(part)})
            for part in PARTS
        },
    )


def training_objective(config: TrainConfig, model: nn.Module, mask: np.ndarray) -> Objective:
    """Return a model with the loss that its config says.

    Parameters
    ----------
    config : TrainConfig
    model : nn.Module
    mask : ndarray of shape (x, y, z)
        Of the store.
    """
    loss = TokenLoss(config.optimization.loss, config.optimization.loss_volumes)
    return make_objective(model, counted_voxels(mask, config.data), loss)
