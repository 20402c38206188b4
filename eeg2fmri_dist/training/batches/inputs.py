"""Fingerprints of what a run is made from; imports no torch."""

from __future__ import annotations

from pathlib import Path

from eeg2fmri_dist.config.model import EnsembleConfig, TransformerConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.inference.weights import resolve_weights, weights_sha256
from eeg2fmri_dist.store import Store


def fingerprint_inputs(config: TrainConfig) -> dict[str, str]:
    """Return the fingerprints of the store and of the weights of other runs."""
    inputs = {"store": Store(config.store).fingerprint}
    if isinstance(config.tokenizer, Path):
        inputs["tokenizer"] = weights_sha256(resolve_weights(config.tokenizer, "best"))
    if isinstance(config.model, TransformerConfig) and config.model.skip_from is not None:
        inputs["ridge regression"] = weights_sha256(resolve_weights(config.model.skip_from, "best"))
    if isinstance(config.model, EnsembleConfig):
        for number, run in enumerate(config.model.members, start=1):
            inputs[f"member {number}"] = weights_sha256(resolve_weights(run, "best"))
    return inputs
