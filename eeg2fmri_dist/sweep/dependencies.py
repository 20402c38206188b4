"""Trainings that build on other trainings: a Transformer on a CAE's tokens, or on ridge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eeg2fmri_dist.config.model import EnsembleConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError

# Key of the training config -> kind of model whose run folder it names.
_KINDS = {"tokenizer": "cae", "model.skip_from": "ridge"}


def find_parents(models: Mapping[str, TrainConfig], section: str) -> dict[str, dict[str, str]]:
    """Find which models build on which.

    Parameters
    ----------
    models : mapping of str to TrainConfig
        By name.
    section : str
        Of the sweep's config, for messages.

    Returns
    -------
    dict of str to dict of str to str
        Model -> key of its config -> the model whose ``output`` that key names.

    Raises
    ------
    ConfigError
        If a key names a run folder that is none of theirs: a model from elsewhere may have been
        trained on those who are scored here. If a model is an ensemble, whose members are runs.
    """
    folders = {config.output.resolve(): name for name, config in models.items()}
    parents: dict[str, dict[str, str]] = {}
    for name, config in models.items():
        parents[name] = {}
        if isinstance(config.model, EnsembleConfig):
            raise ConfigError(
                f"{section}.models.{name} is an ensemble: its members were trained before, perhaps "
                "on those who are scored here",
                remedy=f"leave it out of {section}.models; when the sweep is done, average runs of "
                "it with launch/train.py configs/train/ensemble.yaml model.members=[...]",
            )
        for key, run in _named_runs(config).items():
            parent = folders.get(run.resolve())
            if parent is None or models[parent].model.name != _KINDS[key]:
                raise ConfigError(
                    f"{section}.models.{name} builds on {run} ({key}), but no {_KINDS[key]} with "
                    "this output is among the models: one trained on other subjects may know those "
                    "who are scored",
                    remedy=f"add the {_KINDS[key]}'s config to {section}.models, or set {key} to "
                    "what needs no run folder",
                )
            parents[name][key] = parent
    return parents


def parents_first(parents: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the models in order, each after those that it builds on."""
    ordered: list[str] = []
    for name in parents:
        ordered += [other for other in parents[name].values() if other not in ordered]
        ordered += [name] if name not in ordered else []
    return ordered


def _named_runs(config: TrainConfig) -> dict[str, Path]:
    skip_from = getattr(config.model, "skip_from", None)
    named = {"tokenizer": config.tokenizer, "model.skip_from": skip_from}
    return {key: run for key, run in named.items() if isinstance(run, Path)}
