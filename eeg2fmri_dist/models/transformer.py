"""The Transformer-CNN: EEG in, volumes out, one token per volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from eeg2fmri_dist.config.model import TransformerConfig
from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.attention import (
    DecoderLayer,
    EncoderLayer,
    KeyValueCache,
    PositionBias,
    sinusoids,
)
from eeg2fmri_dist.models.eeg_features import BandProducts, EegProjection
from eeg2fmri_dist.models.tokenizer import VolumeTokenizer

START, DROPPED = 0, 1  # rows of the embedding of special decoder inputs


@dataclass(frozen=True)
class _Window:
    """What the decoder needs of the EEG of a window."""

    skip: Tensor  # what the skip predicts (batch, T, d_token); (1, T, 1) zeros without
    keys_values: list[tuple[Tensor, Tensor]]  # per layer, each (batch, head, context + T, d_head)
    self_bias: Tensor  # (head, T, T)
    cross_bias: Tensor  # (head, T, context + T)
    absolute: Tensor  # (T, d_model), or (T, 1) of zeros


class ProductSkip(nn.Module):
    """Linear map from squares and products of band power to tokens; starts at 0.

    Parameters
    ----------
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    tr_s : float
        Repetition time in s.
    d_token : int
        Numbers per volume token.

    Attributes
    ----------
    bands : Tensor, shape (frequency, band)
        Averages frequencies to bands; `training.ridge_start` fills it.
    """

    bands: Tensor

    def __init__(self, num_channels: int, num_frequencies: int, *, tr_s: float, d_token: int):
        super().__init__()
        self.register_buffer("bands", torch.zeros(num_frequencies, len(BANDS_HZ)))
        self.products = BandProducts(num_channels, len(BANDS_HZ), tr_s=tr_s)
        self.linear = nn.Linear(self.products.size, d_token, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, eeg: Tensor) -> Tensor:
        """EEG (batch, tr, channel, frequency) -> tokens (batch, tr, d_token)."""
        return self.linear(self.products(eeg @ self.bands))


class EegToTokens(nn.Module):
    """Encoder-decoder from EEG to standardized volume tokens.

    The encoder reads one EEG token per TR, the context before the window included. The decoder
    reads the volume tokens shifted by one, behind a learned start token, attends to them
    causally, then to the encoded EEG, and emits the token of each TR. In training the true
    previous tokens are shown (teacher forcing), most of them dropped by choice; in generation
    the model's own outputs are fed back, all of them. A model with `teacher_forcing_ratio` 0 has no
    input for tokens: each TR is decoded from the EEG alone, in training and in generation.

    Parameters
    ----------
    num_channels, num_frequencies : int
        Size of one TR of EEG.
    context : int
        EEG TRs before the first volume of a window.
    tr_s : float
        Repetition time in s.
    d_token : int
        Numbers per volume token.
    config : TransformerConfig
        Sizes and options.

    Notes
    -----
    Bruno et al., JHJA 3(1), 2025. HRF front end, linear skip, dropped teacher tokens, relative
    positions and the attention span are ours; all can be switched off.
    """

    def __init__(
        self,
        num_channels: int,
        num_frequencies: int,
        *,
        context: int,
        tr_s: float,
        d_token: int,
        config: TransformerConfig,
    ):
        super().__init__()
        self.config = config
        self.context = context
        self.d_token = d_token
        d_model = config.d_model
        self.eeg_in = EegProjection(
            num_channels,
            num_frequencies,
            (d_model, d_token) if config.linear_skip else (d_model,),
            tr_s=tr_s if config.hrf_front_end else None,
            dropout=config.eeg_dropout,
        )
        self.product_skip = (
            ProductSkip(num_channels, num_frequencies, tr_s=tr_s, d_token=d_token)
            if config.skip_quadratic
            else None
        )
        layer_sizes = d_model, config.num_heads, config.dropout
        self.encoder = nn.ModuleList(EncoderLayer(*layer_sizes) for _ in range(config.layers))
        self.encoder_norm = nn.LayerNorm(d_model)

        self.special_in = nn.Embedding(2, d_model)
        self.token_in = nn.Linear(d_token, d_model) if config.teacher_forcing_ratio > 0 else None
        decoder = nn.ModuleList(DecoderLayer(*layer_sizes) for _ in range(config.layers))
        self.decoder = cast("Sequence[DecoderLayer]", decoder)  # ModuleList hides the type
        self.decoder_norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, d_token)
        if config.linear_skip:
            nn.init.zeros_(self.skip_weights)

        self.encoder_bias = self._bias(causal=config.causal_eeg)
        self.self_bias = self._bias(causal=True)
        self.cross_bias = self._bias(causal=config.causal_eeg)
        nn.init.normal_(self.special_in.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)  # starts near the mean, which is 0

    @property
    def skip_weights(self) -> Tensor:
        """Weights of the linear skip, a view (HRF kernel, d_token, channel x frequency)."""
        return self.eeg_in.weights(1)

    def forward(self, eeg: Tensor, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Predict each token from the EEG and the true tokens before it.

        Parameters
        ----------
        eeg : Tensor, shape (batch, context + T, channel, frequency)
            EEG features.
        tokens : Tensor, shape (batch, T, d_token)
            True standardized tokens. The last one is not looked at.
        keep : Tensor of bool, shape (batch, T), optional
            Where false, the token is dropped whole and a learned vector shown instead; None
            keeps all. Without effect where the model has `teacher_forcing_ratio` 0.

        Returns
        -------
        Tensor, shape (batch, T, d_token)
            Predicted tokens; number t depends on tokens before t alone.

        Raises
        ------
        DataError
            If the EEG has other channels or frequencies than the model, or another length.
        """
        window = self._read_eeg(eeg, tokens.shape[1])
        inputs = torch.cat([self._special(START, tokens[:, :1]), self._show(tokens, keep)], dim=1)
        x = inputs[:, :-1] + window.absolute
        for layer, eeg_keys_values in zip(self.decoder, window.keys_values, strict=True):
            x = layer(x, eeg_keys_values, window.self_bias, window.cross_bias)
        return self._emit(x) + window.skip

    @torch.no_grad()
    def generate(self, eeg: Tensor, num_volumes: int) -> Tensor:
        """Predict tokens from the EEG alone, feeding own outputs back, one at a time.

        The encoder and the keys and values of its output are computed once, those of each step
        are kept in a cache. With an attention span the time per step is constant.

        Parameters
        ----------
        eeg : Tensor, shape (batch, context + num_volumes, channel, frequency)
            EEG features.
        num_volumes : int
            Volumes to generate.

        Returns
        -------
        Tensor, shape (batch, num_volumes, d_token)

        Raises
        ------
        DataError
            As `forward`.
        """
        tokens = eeg.new_zeros(len(eeg), num_volumes, self.d_token)
        if self.token_in is None:
            return self(eeg, tokens)
        window = self._read_eeg(eeg, num_volumes)
        span = self.config.attention_span
        caches = [KeyValueCache(num_volumes, span) for _ in self.decoder]
        step_in = self._special(START, tokens[:, :1])
        for t in range(num_volumes):
            x = self._step(step_in, t, window, caches)
            tokens[:, t] = self._emit(x)[:, 0] + window.skip[:, t]
            step_in = self.token_in(tokens[:, t : t + 1])
        return tokens

    @torch.no_grad()
    def generate_uncached(self, eeg: Tensor, num_volumes: int) -> Tensor:
        """Return what `generate` returns, by a whole forward pass per step: its reference."""
        tokens = eeg.new_zeros(len(eeg), num_volumes, self.d_token)
        for t in range(num_volumes):
            tokens[:, t] = self(eeg, tokens)[:, t]
        return tokens

    def _read_eeg(self, eeg: Tensor, num_volumes: int) -> _Window:
        """Compute all that does not depend on volume tokens."""
        if eeg.shape[1] != self.context + num_volumes:
            raise DataError(
                f"{eeg.shape[1]} TRs of EEG for {num_volumes} volumes",
                remedy=f"give {num_volumes} TRs and the {self.context} TRs of context before them",
            )
        eeg_trs = torch.arange(eeg.shape[1], device=eeg.device)
        volume_trs = eeg_trs[self.context :]
        memory, *skips = self.eeg_in(eeg)
        if self.product_skip is not None:
            skips.append(self.product_skip(eeg))
        memory = memory + self._absolute(eeg_trs)
        encoder_bias = self.encoder_bias(eeg_trs, eeg_trs)
        for layer in self.encoder:
            memory = layer(memory, encoder_bias)
        memory = self.encoder_norm(memory)
        return _Window(
            skip=sum(skips)[:, self.context :] if skips else memory.new_zeros(1, num_volumes, 1),
            keys_values=[layer.cross_attention.keys_values(memory) for layer in self.decoder],
            self_bias=self.self_bias(volume_trs, volume_trs),
            cross_bias=self.cross_bias(volume_trs, eeg_trs),
            absolute=self._absolute(volume_trs),
        )

    def _step(
        self, step_in: Tensor, t: int, window: _Window, caches: list[KeyValueCache]
    ) -> Tensor:
        """Run the decoder for volume t alone."""
        span = self.config.attention_span
        past = _reach(t, span, causal=True)
        seen = _reach(self.context + t, span, causal=self.config.causal_eeg)
        self_bias = window.self_bias[:, t : t + 1, past]
        cross_bias = window.cross_bias[:, t : t + 1, seen]
        x = step_in + window.absolute[t]
        for layer, (keys, values), cache in zip(
            self.decoder, window.keys_values, caches, strict=True
        ):
            x = layer(x, (keys[:, :, seen], values[:, :, seen]), self_bias, cross_bias, cache)
        return x

    def _show(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens as decoder inputs (batch, T, d_model), dropped ones replaced."""
        dropped = self._special(DROPPED, tokens)
        if self.token_in is None:
            return dropped
        shown = self.token_in(tokens)
        return shown if keep is None else torch.where(keep[..., None], shown, dropped)

    def _special(self, row: int, like: Tensor) -> Tensor:
        """Start or dropped vector for each (batch, tr) of `like`."""
        return self.special_in(torch.full(like.shape[:2], row, device=like.device))

    def _emit(self, x: Tensor) -> Tensor:
        """Decoder output -> tokens, without the linear skip."""
        return self.head(self.decoder_norm(x))

    def _absolute(self, positions: Tensor) -> Tensor:
        """Positional encoding (tr, d_model); zeros where positions are relative."""
        if self.config.positions == "sinusoidal":
            return sinusoids(positions, self.config.d_model)
        return torch.zeros(len(positions), 1, device=positions.device)

    def _bias(self, *, causal: bool) -> PositionBias:
        return PositionBias(
            self.config.num_heads,
            causal=causal,
            span=self.config.attention_span,
            learned=self.config.positions == "relative",
        )


class TransformerCNN(nn.Module):
    """Volume tokenizer and `EegToTokens`: EEG in, volumes out.

    Tokens are standardized by the statistics of training tokens, so that targets have about
    unit variance whatever the tokenizer; call `fit_token_statistics` once before training.

    Parameters
    ----------
    tokenizer : VolumeTokenizer
        Trained autoencoder or fitted principal components. Its parameters are frozen unless
        `config.train_tokenizer`.
    num_channels, num_frequencies, context, tr_s
        See `EegToTokens`.
    config : TransformerConfig
        Sizes and options.
    """

    token_mean: Tensor
    token_std: Tensor

    def __init__(
        self,
        tokenizer: VolumeTokenizer,
        num_channels: int,
        num_frequencies: int,
        *,
        context: int,
        tr_s: float,
        config: TransformerConfig,
    ):
        super().__init__()
        self.config = config
        self.grid = tokenizer.grid
        self.tokenizer = tokenizer
        for parameter in tokenizer.parameters():
            parameter.requires_grad_(config.train_tokenizer)
        self.register_buffer("token_mean", torch.zeros(tokenizer.d_token))
        self.register_buffer("token_std", torch.ones(tokenizer.d_token))
        self.eeg_to_tokens = EegToTokens(
            num_channels,
            num_frequencies,
            context=context,
            tr_s=tr_s,
            d_token=tokenizer.d_token,
            config=config,
        )

    def forward(self, eeg: Tensor, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Predict standardized tokens, teacher forced; see `EegToTokens.forward`."""
        return self.eeg_to_tokens(eeg, tokens, keep)

    def fit_token_statistics(self, tokens: Tensor) -> None:
        """Set mean and deviation from the tokenizer's own tokens (n, d_token) of training volumes.

        Raises
        ------
        DataError
            If tokens are not finite, or there are fewer than two.
        """
        if len(tokens) < 2 or not torch.isfinite(tokens).all():
            raise DataError(
                f"cannot standardize {len(tokens)} volume tokens: they must be finite, two or more",
                remedy="check the trained autoencoder and the training volumes",
            )
        std = tokens.std(0)
        # A dimension that the tokenizer does not use must not become amplified noise.
        self.token_std.copy_(std.clamp(min=max(1e-3 * float(std.max()), 1e-12)))
        self.token_mean.copy_(tokens.mean(0))

    def encode_volumes(self, volumes: Tensor) -> Tensor:
        """Volumes (batch, T, x, y, z) -> standardized tokens (batch, T, d_token)."""
        tokens = self.tokenizer.encode(volumes.flatten(0, 1))
        return ((tokens - self.token_mean) / self.token_std).unflatten(0, volumes.shape[:2])

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Standardized tokens (batch, T, d_token) -> volumes (batch, T, x, y, z)."""
        raw = tokens * self.token_std + self.token_mean
        return self.tokenizer.decode(raw.flatten(0, 1)).unflatten(0, tokens.shape[:2])

    @torch.no_grad()
    def generate_volumes(self, eeg: Tensor, num_volumes: int) -> Tensor:
        """EEG alone -> volumes (batch, num_volumes, x, y, z); see `EegToTokens.generate`."""
        return self.decode_tokens(self.eeg_to_tokens.generate(eeg, num_volumes))


def _reach(position: int, span: int | None, *, causal: bool) -> slice:
    """TRs that attention at a position can see."""
    first = 0 if span is None else max(0, position - span + 1)
    last = None if span is None else position + span
    return slice(first, position + 1 if causal else last)
