"""Windows of normalized EEG and BOLD, as views over the store or over RAM."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch

from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import Scaling, Trend, fit_trend, normalize_eeg
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.data.window_index import Window, tiling_windows, training_windows
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.store import Store

Field = Literal["eeg", "bold", "tokens"]
_SHARE_OF_FREE_MEMORY = 0.25
_WINDOWS_DESCRIBED = 4


class WindowSource(Protocol):
    """What can be cut into windows."""

    config: DataConfig

    @property
    def has_tokens(self) -> bool:
        """True where volume tokens were attached."""

    def batch(self, windows: Sequence[Window], fields: Sequence[Field]) -> dict[str, torch.Tensor]:
        """Stack windows into tensors, one per field."""


class DeviceWindows:
    """Windows of a `WindowData`, cut from a copy of all its segments that lies on a device.

    Parameters
    ----------
    data : WindowData
        With its tokens attached.
    fields : sequence of str
        What will be asked for.
    device : torch.device
        Where the copy is kept.
    """

    def __init__(self, data: WindowData, fields: Sequence[Field], device: torch.device):
        self._data = data
        self._segments = {
            field: [
                torch.from_numpy(data.segment(field, number)).to(device)
                for number in range(len(data.lengths))
            ]
            for field in fields
        }

    def batch(self, windows: Sequence[Window], fields: Sequence[Field]) -> dict[str, torch.Tensor]:
        """Stack windows into tensors on the device, one per field."""
        return {
            field: torch.stack(
                [self._segments[field][w.segment][self._data.rows(field, w)] for w in windows]
            )
            for field in fields
        }

    @staticmethod
    def fits(data: WindowData, device: torch.device) -> bool:
        """True if the volumes take less than a quarter of the free memory of a GPU."""
        if device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(device)
        return data.volume_bytes < _SHARE_OF_FREE_MEMORY * free


def with_context(eeg: np.ndarray, context: int) -> np.ndarray:
    """Put `context` TRs of zeros (the mean) before normalized EEG, (volume, channel, frequency)."""
    return np.pad(eeg, ((context, 0), (0, 0), (0, 0)))


class EegWindows:
    """Windows of one recording of which only EEG is known.

    Parameters
    ----------
    eeg : ndarray of shape (volume, channel, frequency)
        Normalized.
    config : DataConfig
        Window and context.
    """

    has_tokens = False

    def __init__(self, eeg: np.ndarray, config: DataConfig):
        self.config, self._length = config, len(eeg)
        self._eeg = with_context(eeg, config.context)

    def tiling_windows(self) -> list[Window]:
        """Return windows that cover the recording once."""
        return tiling_windows([self._length], self.config.window)

    def batch(self, windows: Sequence[Window], fields: Sequence[Field]) -> dict[str, torch.Tensor]:
        """Stack windows of EEG."""
        assert tuple(fields) == ("eeg",)
        length = self.config.context + min(self.config.window, self._length)
        stacked = np.stack([self._eeg[w.start : w.start + length] for w in windows])
        return {"eeg": torch.from_numpy(stacked)}


class WindowData:
    """Segments of a store, normalized, cut into windows when asked for.

    Parameters
    ----------
    store : Store
        Samples.
    segments : sequence of Segment
        Which samples.
    config : DataConfig
        Normalization, window, context, caching.
    scaling : Scaling
        Statistics of the training recordings.
    processes : int
        Ranks of this machine that hold their own copy (decides what fits in RAM).

    Raises
    ------
    DataError
        If no segment is as long as a window.
    """

    def __init__(
        self,
        store: Store,
        segments: Sequence[Segment],
        config: DataConfig,
        scaling: Scaling,
        processes: int = 1,
    ):
        self.store, self.segments, self.config, self.scaling = store, segments, config, scaling
        self.lengths = [segment.stop - segment.start for segment in segments]
        if max(self.lengths, default=0) < config.window:
            raise DataError(
                f"no recording has {config.window} volumes in a row, which one window needs",
                where=store.path,
                remedy="lower data.window",
            )
        self._eeg: dict[int, np.ndarray] = {}
        self._trends: dict[int, Trend] = {}
        self._tokens: list[np.ndarray] | None = None
        self._bold = self._load_bold() if self._fits_in_ram(processes) else None

    @property
    def cached(self) -> bool:
        """True where normalized volumes lie in RAM."""
        return self._bold is not None

    @property
    def has_tokens(self) -> bool:
        """True where volume tokens were attached."""
        return self._tokens is not None

    def training_windows(self) -> list[Window]:
        """Return overlapping windows for training."""
        return training_windows(self.lengths, self.config.window, self.config.stride)

    def tiling_windows(self, segment: int) -> list[Window]:
        """Return windows that cover one segment once."""
        tiles = tiling_windows([self.lengths[segment]], self.config.window)
        return [tile._replace(segment=segment) for tile in tiles]

    def describe_windows(self, windows: Sequence[Window]) -> str:
        """Return recordings and volumes of windows, for a person."""
        texts = []
        for window in windows[:_WINDOWS_DESCRIBED]:
            entry = self.store.recordings[self.segments[window.segment].recording]
            first = self.segments[window.segment].start - entry.first_sample + window.start
            texts.append(f"{entry.key} volumes {first}-{first + self.config.window - 1}")
        more = len(windows) - len(texts)
        return ", ".join(texts) + (f" and {more} more" if more > 0 else "")

    @property
    def volume_bytes(self) -> int:
        """Size of all normalized volumes."""
        return 4 * sum(self.lengths) * int(np.prod(self.store.grid))

    def rows(self, field: Field, window: Window) -> slice:
        """Return where a window lies in its segment; EEG has `context` rows before it."""
        length = min(self.config.window, self.lengths[window.segment])
        before = self.config.context if field == "eeg" else 0
        return slice(window.start, window.start + before + length)

    def segment(self, field: Field, number: int) -> np.ndarray:
        """Return all rows of a segment: EEG with zeros before it, volumes or their tokens."""
        if field == "eeg":
            return self._segment_eeg(number)
        if field == "bold":
            return self.segment_bold(number, 0, self.lengths[number])
        if self._tokens is None:
            raise RuntimeError("tokens were not attached")
        return self._tokens[number]

    def window(self, field: Field, window: Window) -> np.ndarray:
        """Return a window's EEG (context + window, channel, frequency), volumes or tokens."""
        rows = self.rows(field, window)
        if field == "bold":
            return self.segment_bold(window.segment, rows.start, rows.stop)
        return self.segment(field, window.segment)[rows]

    def attach_tokens(self, tokens: Sequence[np.ndarray]) -> None:
        """Give each segment its volume tokens, (volume, token)."""
        self._tokens = list(tokens)

    def change_eeg(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace each segment's normalized EEG, (volume, channel, frequency), by a control."""
        context = self.config.context
        for number in range(len(self.segments)):
            eeg = self._segment_eeg(number)[context:]
            self._eeg[number] = with_context(change(eeg), context)

    def false_eeg(self, number: int, change: Callable[[np.ndarray], np.ndarray]) -> EegWindows:
        """Return windows of a segment's normalized EEG passed through a control."""
        return EegWindows(change(self._segment_eeg(number)[self.config.context :]), self.config)

    def forget(self, number: int) -> None:
        """Let go of a segment's normalized EEG and trend; they are made again when needed."""
        self._eeg.pop(number, None)
        self._trends.pop(number, None)

    def segment_bold(self, segment: int, start: int, stop: int) -> np.ndarray:
        """Return normalized volumes of a segment, (volume, x, y, z)."""
        if self._bold is not None:
            return self._bold[segment][start:stop]
        return self._normalized(segment, start, stop)

    def batch(self, windows: Sequence[Window], fields: Sequence[Field]) -> dict[str, torch.Tensor]:
        """Stack windows into tensors, one per field."""
        return {
            field: torch.from_numpy(np.stack([self.window(field, window) for window in windows]))
            for field in fields
        }

    def _segment_eeg(self, number: int) -> np.ndarray:
        """Normalized when first needed: a rank may never read some of the segments."""
        if number not in self._eeg:
            segment = self.segments[number]
            power = self.store.eeg(segment.start, segment.stop)
            eeg = normalize_eeg(power, self.config, self.scaling)
            self._eeg[number] = with_context(eeg, self.config.context)
        return self._eeg[number]

    def _load_bold(self) -> list[np.ndarray]:
        return [self._normalized(i, 0, length) for i, length in enumerate(self.lengths)]

    def _normalized(self, segment: int, start: int, stop: int) -> np.ndarray:
        first = self.segments[segment].start
        bold = self.store.bold(first + start, first + stop)
        if self.config.normalize == "global":
            return (bold - self.scaling.bold_mean) / np.float32(self.scaling.bold_std)
        return self._trend(segment).standardize(bold, start)

    def _trend(self, segment: int) -> Trend:
        """Fitted when first needed, as EEG is normalized."""
        if segment not in self._trends:
            trend = fit_trend(self.store, self.segments[segment], self.config.detrend_order)
            self._trends[segment] = trend
        return self._trends[segment]

    def _fits_in_ram(self, processes: int) -> bool:
        if self.config.cache != "auto":
            return self.config.cache == "ram"
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return self.volume_bytes * processes < _SHARE_OF_FREE_MEMORY * free
