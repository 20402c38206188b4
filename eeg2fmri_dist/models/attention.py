"""Attention with positions counted in TRs, and the two kinds of Transformer layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_DISTANCE_TRS = 64  # farther TRs share one bias where attention has no span


class PositionBias(nn.Module):
    """What is added to attention scores: minus infinity where hidden, else a bias per distance.

    Parameters
    ----------
    num_heads : int
        Attention heads.
    causal : bool
        Hide keys later than the query.
    span : int or None
        Hide keys that lie this many TRs away or more; None hides none.
    learned : bool
        Learn a bias per head and distance (relative positions); else 0.
    """

    def __init__(self, num_heads: int, *, causal: bool, span: int | None, learned: bool):
        super().__init__()
        self.causal = causal
        self.span = span
        self.farthest = MAX_DISTANCE_TRS if span is None else span - 1
        distances = self.farthest + 1 if causal else 2 * self.farthest + 1
        self.table = nn.Embedding(distances, num_heads) if learned else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight)

    def forward(self, query_trs: Tensor, key_trs: Tensor) -> Tensor:
        """Positions (query,) and (key,) in TRs -> bias (head or 1, query, key)."""
        distance = query_trs[:, None] - key_trs[None, :]
        hidden = torch.zeros_like(distance, dtype=torch.bool)
        if self.causal:
            hidden |= distance < 0
        if self.span is not None:
            hidden |= distance.abs() >= self.span
        if self.table is None:
            bias = torch.zeros((1, *distance.shape), device=distance.device)
        else:
            lowest = 0 if self.causal else -self.farthest
            index = distance.clamp(lowest, self.farthest) - lowest
            bias = self.table(index).permute(2, 0, 1)
        return bias.masked_fill(hidden, -math.inf)


class KeyValueCache:
    """Keys and values of the steps generated so far, in a buffer made once.

    Parameters
    ----------
    capacity : int
        Steps that will be generated.
    span : int or None
        Hold only this many latest steps, so that memory does not grow with the capacity; None
        holds all.
    """

    def __init__(self, capacity: int, span: int | None):
        self.span = capacity if span is None else min(span, capacity)
        # Twice the span: held steps move to the front once per span, not at each step.
        self.size = min(2 * self.span, capacity)
        self.end = 0
        self.buffers: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add one step (batch, head, 1, d_head); return those within the span, it included."""
        if self.buffers is None:
            shape = (*keys.shape[:2], self.size, keys.shape[3])
            self.buffers = keys.new_empty(shape), values.new_empty(shape)
        if self.end == self.size:
            self._move_to_front(self.buffers)
        for buffer, step in zip(self.buffers, (keys, values), strict=True):
            buffer[:, :, self.end] = step[:, :, 0]
        self.end += 1
        first = max(0, self.end - self.span)
        kept_keys, kept_values = (buffer[:, :, first : self.end] for buffer in self.buffers)
        return kept_keys, kept_values

    def _move_to_front(self, buffers: tuple[Tensor, Tensor]) -> None:
        """Keep the steps that the next one still sees."""
        seen = self.span - 1
        for buffer in buffers:
            buffer[:, :, :seen] = buffer[:, :, self.end - seen : self.end].clone()
        self.end = seen


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be computed once and reused."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, key, d_model) -> keys and values, each (batch, head, key, d_head)."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return self._split_heads(keys), self._split_heads(values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """(batch, query, d_model), keys, values, bias (head, query, key) -> as x."""
        queries = self._split_heads(self.query(x))
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=bias.to(queries.dtype)
        )
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers around a GELU, four times as wide inside."""

    def __init__(self, d_model: int):
        super().__init__(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed forward, normalized before each (pre-norm)."""

    def __init__(self, d_model: int, num_heads: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.attention = Attention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(batch, tr, d_model), bias (head, tr, tr) -> the same shape as x."""
        normed = self.norms[0](x)
        keys_values = self.attention.keys_values(normed)
        x = x + self.dropout(self.attention(normed, *keys_values, bias))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


class DecoderLayer(nn.Module):
    """Self-attention over volumes, cross-attention to the EEG, feed forward (pre-norm)."""

    def __init__(self, d_model: int, num_heads: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))
        self.self_attention = Attention(d_model, num_heads)
        self.cross_attention = Attention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        eeg_keys_values: Sequence[Tensor],
        self_bias: Tensor,
        cross_bias: Tensor,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Volumes (batch, tr, d_model) -> the same; with a cache, x is the one newest step."""
        normed = self.norms[0](x)
        keys, values = self.self_attention.keys_values(normed)
        if cache is not None:
            keys, values = cache.append(keys, values)
        x = x + self.dropout(self.self_attention(normed, keys, values, self_bias))
        normed = self.norms[1](x)
        x = x + self.dropout(self.cross_attention(normed, *eeg_keys_values, cross_bias))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))


def sinusoids(positions: Tensor, d_model: int) -> Tensor:
    """Return sinusoidal encodings (position, d_model) of Vaswani et al. (2017)."""
    rates = 10000.0 ** (-torch.arange(0, d_model, 2, device=positions.device) / d_model)
    angles = positions[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
