"""Reading chosen channels of a recording while noting which of them recorded nothing."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg

# A recorded channel varies by at least its noise, far more than this.
FLAT_UV = 1e-3
# Share of samples at the limit of the file's integers that makes a channel saturated.
MAX_SATURATED_SHARE = 1e-3


class WatchedSignal:
    """Chosen channels of a recording, whose range is noted while they are read.

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording.
    channels : array (channel,) of int
        Positions in the file.
    """

    def __init__(self, eeg: ContinuousEeg, channels: np.ndarray):
        self._eeg, self._channels = eeg, channels
        self._lowest = np.full(len(channels), np.inf, dtype=np.float32)
        self._highest = np.full(len(channels), -np.inf, dtype=np.float32)
        self._limits_uv = eeg.limits_uv[channels]
        self._n_clipped, self._n_read = np.zeros(len(channels), dtype=int), 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples (channel, sample) of a range in microvolts."""
        block = self._eeg.read(start, stop, self._channels)
        # Both carry a NaN on.
        lowest, highest = block.min(axis=1), block.max(axis=1)
        self._lowest = np.minimum(self._lowest, lowest)
        self._highest = np.maximum(self._highest, highest)
        self._n_read += stop - start
        for row in np.flatnonzero(np.maximum(-lowest, highest) >= self._limits_uv):
            self._n_clipped[row] += np.count_nonzero(np.abs(block[row]) >= self._limits_uv[row])
        return block

    def check(self) -> None:
        """Refuse channels that were constant or not finite in what was read.

        Raises
        ------
        DataError
            With the names of the channels.
        """
        finite = np.isfinite(self._lowest) & np.isfinite(self._highest)
        flat = finite & (self._highest - self._lowest < FLAT_UV)
        faults = []
        if not finite.all():
            faults.append(f"NaN or infinite samples in {', '.join(self._names(~finite))}")
        if flat.any():
            faults.append(f"constant signal in {', '.join(self._names(flat))}")
        if faults:
            raise DataError(
                "; ".join(faults),
                where=self._eeg.header_path,
                remedy="set eeg.bad_channels: interpolate, add the channels to eeg.drop_channels "
                "(all recordings then do without them), or leave the recording out "
                "(source.exclude)",
            )

    def faults(self) -> dict[str, str]:
        """Names of channels that are of no use, and why."""
        finite = np.isfinite(self._lowest) & np.isfinite(self._highest)
        flat = finite & (self._highest - self._lowest < FLAT_UV)
        saturated = finite & ~flat & (self._n_clipped > MAX_SATURATED_SHARE * self._n_read)
        kinds = {"not finite": ~finite, "constant": flat, "saturated": saturated}
        return {name: kind for kind, chosen in kinds.items() for name in self._names(chosen)}

    def _names(self, chosen: np.ndarray) -> list[str]:
        return [self._eeg.channel_names[channel] for channel in self._channels[chosen]]
