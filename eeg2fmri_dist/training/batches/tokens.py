"""Volume tokens of a frozen tokenizer, computed once for each volume."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.files.atomic import replacing
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.tokenizer import VolumeTokenizer
from eeg2fmri_dist.models.transformer import TransformerCNN

logger = logging.getLogger(__name__)

_VOLUMES_PER_BLOCK = 128  # fewer would cost principal components more merges


class TokenCache:
    """Files that hold the tokens of a trained tokenizer, named after all that they depend on.

    Parameters
    ----------
    folder : Path
        Of the tokenizer's run; made when there is something to keep.
    weights_sha256 : str
        Of the tokenizer's weights.
    may_write : bool
        One rank writes, all read.
    """

    def __init__(self, folder: Path, weights_sha256: str, *, may_write: bool):
        self._folder, self._weights, self._may_write = folder, weights_sha256, may_write

    def load(self, data: WindowData) -> np.ndarray | None:
        """Return (volume, token) of all segments in order; None if they are not there."""
        try:
            return np.load(self._path(data))
        except (OSError, ValueError, EOFError):
            return None

    def keep(self, data: WindowData, tokens: np.ndarray) -> None:
        """Keep tokens; without a place to write them they are computed again next time."""
        if not self._may_write:
            return
        try:
            with replacing(self._path(data)) as temporary, temporary.open("wb") as file:
                np.save(file, tokens)
        except OSError as error:
            logger.info("tokens cannot be kept in %s (%s)", self._folder, error.strerror)

    def _path(self, data: WindowData) -> Path:
        scaling = {name: np.asarray(value).tolist() for name, value in asdict(data.scaling).items()}
        key = [
            self._weights,
            data.store.fingerprint,
            data.config.normalize,
            data.config.detrend_order,
            [(segment.start, segment.stop) for segment in data.segments],
            scaling if data.config.normalize == "global" else None,
        ]
        return self._folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npy"


def prepare_tokens(
    model: TransformerCNN,
    train: WindowData,
    validation: WindowData,
    cache: TokenCache | None,
    device: torch.device,
) -> None:
    """Fit what is fitted on training volumes; give the data their tokens where they stay the same.

    Parameters
    ----------
    model : TransformerCNN
        Its tokenizer is fitted if it has a closed form, and left alone if it is trained.
    train, validation : WindowData
        Get standardized tokens unless the tokenizer is trained along.
    cache : TokenCache or None
        Of a tokenizer that was trained before.
    device : torch.device
        Where tokens are computed.
    """
    if isinstance(model.tokenizer, PrincipalComponents):
        mask = torch.from_numpy(train.store.layout.mask.astype(bool))
        model.tokenizer.fit(_volumes_in_blocks(train), mask)
        logger.info("fitted %d principal components", model.tokenizer.d_token)
    tokens = _encode(model.tokenizer, train, cache, device)
    model.fit_token_statistics(torch.from_numpy(tokens))
    if model.config.train_tokenizer:
        return
    _attach(model, train, tokens)
    attach_tokens(model, validation, cache, device)


def attach_tokens(
    model: TransformerCNN, data: WindowData, cache: TokenCache | None, device: torch.device
) -> None:
    """Give `data` the standardized token of each volume, so that training need not encode."""
    _attach(model, data, _encode(model.tokenizer, data, cache, device))


def _attach(model: TransformerCNN, data: WindowData, tokens: np.ndarray) -> None:
    standardized = (tokens - model.token_mean.numpy()) / model.token_std.numpy()
    data.attach_tokens(np.split(standardized, np.cumsum(data.lengths)[:-1]))


@torch.no_grad()
def _encode(
    tokenizer: VolumeTokenizer, data: WindowData, cache: TokenCache | None, device: torch.device
) -> np.ndarray:
    """Tokens (volume, token) of all segments in order."""
    known = cache.load(data) if cache is not None else None
    if known is not None:
        return known
    assert isinstance(tokenizer, torch.nn.Module)
    tokenizer.to(device)
    blocks = [tokenizer.encode(v.to(device)).cpu().numpy() for v in _volumes_in_blocks(data)]
    tokenizer.to("cpu")
    tokens = np.concatenate(blocks)
    if cache is not None:
        cache.keep(data, tokens)
    return tokens


def _volumes_in_blocks(data: WindowData) -> Iterator[torch.Tensor]:
    """Normalized volumes of all segments, a block at a time, in order."""
    for segment, length in enumerate(data.lengths):
        for start in range(0, length, _VOLUMES_PER_BLOCK):
            stop = min(start + _VOLUMES_PER_BLOCK, length)
            yield torch.from_numpy(np.array(data.segment_bold(segment, start, stop)))
