"""What a volume tokenizer is: the interface between volumes and the Transformer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class VolumeTokenizer(Protocol):
    """A module that turns volumes into tokens and back; filled by CAE and principal components.

    Attributes
    ----------
    grid : tuple of int
        Voxels (x, y, z) of a volume.
    d_token : int
        Numbers per token.
    """

    grid: tuple[int, int, int]
    d_token: int

    def encode(self, volumes: Tensor) -> Tensor:
        """Volumes (n, x, y, z) -> tokens (n, d_token)."""

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (n, d_token) -> volumes (n, x, y, z)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters; none where the tokenizer was fitted in closed form."""
