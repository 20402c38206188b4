"""Volume tokens of a frozen tokeniser, computed once for each volume."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch

from eeg2fmri_dist.data import WindowData
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.tokeniser import VolumeTokeniser
from eeg2fmri_dist.models.transformer import TransformerCNN

logger = logging.getLogger(__name__)

_VOLUMES_PER_BLOCK = 32


def volumes_in_blocks(data: WindowData) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (segment, normalised volumes) of all segments, a block at a time, in order."""
    for segment, length in enumerate(data.lengths):
        for start in range(0, length, _VOLUMES_PER_BLOCK):
            stop = min(start + _VOLUMES_PER_BLOCK, length)
            yield segment, torch.from_numpy(np.array(data.segment_bold(segment, start, stop)))


@torch.no_grad()
def fit_tokeniser(tokeniser: VolumeTokeniser, train: WindowData) -> None:
    """Fit a tokeniser that has a closed form on the training volumes; leave a trained one alone."""
    if isinstance(tokeniser, PrincipalComponents):
        tokeniser.fit(volumes for _, volumes in volumes_in_blocks(train))
        logger.info("fitted %d principal components", tokeniser.d_token)


@torch.no_grad()
def standardise_tokens(model: TransformerCNN, train: WindowData) -> None:
    """Set the model's token mean and deviation from all training volumes."""
    tokens = [model.tokeniser.encode(volumes) for _, volumes in volumes_in_blocks(train)]
    model.fit_token_statistics(torch.cat(tokens))


@torch.no_grad()
def attach_tokens(model: TransformerCNN, data: WindowData) -> None:
    """Give `data` the standardised token of each volume, so that training need not encode."""
    tokens: list[list[np.ndarray]] = [[] for _ in data.lengths]
    for segment, volumes in volumes_in_blocks(data):
        tokens[segment].append(model.encode_volumes(volumes[None])[0].numpy())
    data.attach_tokens([np.concatenate(blocks) for blocks in tokens])
