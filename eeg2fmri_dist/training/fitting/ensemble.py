"""An ensemble of trained runs as a run of its own: nothing is trained, predictions are averaged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from eeg2fmri_dist.config.model import EnsembleConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.staging import staged_copy
from eeg2fmri_dist.files.run_folder import check_folder
from eeg2fmri_dist.inference.model_file import ModelCard, TrainedModel
from eeg2fmri_dist.models.build import model_bytes
from eeg2fmri_dist.models.ensemble import Ensemble
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs
from eeg2fmri_dist.training.batches.split_data import open_data
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.fitting.eeg_scale import settle_eeg_scale
from eeg2fmri_dist.training.fitting.one_epoch import OneEpoch, recorded_run
from eeg2fmri_dist.training.initial_model import load_member, make_card
from eeg2fmri_dist.training.progress import Progress

logger = logging.getLogger(__name__)

_MIB = 2**20


def fit(config: TrainConfig, session: Session) -> Progress:
    """Put trained models into one, score validation subjects, log and save (collective).

    Parameters
    ----------
    config : TrainConfig
        Its model is an `EnsembleConfig`.
    session : Session
        Its device predicts validation subjects, its heartbeat is told of every recording.

    Returns
    -------
    Progress
        Of the one epoch.

    Raises
    ------
    StopAskedError
        If a rank was asked to stop.
    CheckpointError
        If a member has no weights, or does not fit store, split and data section.
    """
    store = Store(staged_copy(config.store))
    if session.ranks.is_first:
        check_folder(config, fingerprint_inputs(config))
    settled = settle_eeg_scale(config)
    data = open_data(settled, store, session.ranks)
    session.stop.agree()
    members = _load(settled, store)
    model = Ensemble([member.model for member in members]).to(session.device)
    card = make_card(settled, store, data.split, None)
    with recorded_run(config, session) as monitor:
        logger.info("ensemble of %d: %s", len(members), ", ".join(map(str, _runs(config))))
        made = OneEpoch(settled, store, data, model, session)
        progress = made.score(monitor, {})
        made.save(_with_members(card, members), progress, {"members": torch.tensor(len(members))})
    return progress


def plan_ensemble(config: TrainConfig) -> list[str]:
    """Return the lines of ``--dry-run``; members that do not fit are refused."""
    settled = settle_eeg_scale(config)
    members = _load(settled, Store(config.store))
    size = sum(model_bytes(member.model) for member in members)
    return [
        f"ensemble of {len(members)}, without training, into {config.output}",
        *(
            f"  {run}: {member.card.model['name']}, epoch {member.card.epoch}"
            for run, member in zip(_runs(config), members, strict=True)
        ),
        f"  checkpoint: about {size / _MIB:.0f} MiB",
    ]


def ensemble_bytes(config: TrainConfig) -> int:
    """Return how large a checkpoint of an ensemble is."""
    members = _load(settle_eeg_scale(config), Store(config.store))
    return sum(model_bytes(member.model) for member in members)


def _runs(config: TrainConfig) -> Sequence[Path]:
    assert isinstance(config.model, EnsembleConfig)
    return config.model.members


def _load(config: TrainConfig, store: Store) -> list[TrainedModel]:
    return [load_member(run, config, store) for run in _runs(config)]


def _with_members(card: ModelCard, members: Sequence[TrainedModel]) -> ModelCard:
    """Say what the members are in place of where they lay."""
    described = [
        {"model": member.card.model, "tokenizer": member.card.tokenizer} for member in members
    ]
    return replace(card, model={"name": card.model["name"], "members": described})
