"""The next batch, read while the present one is computed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from eeg2fmri_dist.data.sampler import Share
from eeg2fmri_dist.data.window_index import Window
from eeg2fmri_dist.data.windows import DeviceWindows, Field, WindowData
from eeg2fmri_dist.inference.objectives import Batch


class ReadAhead:
    """Reads windows in one thread beside the training's, at most one micro-batch ahead.

    What is read does not depend on it, only when. Copying and normalizing volumes is numpy's
    work, which other threads need not wait for.

    Parameters
    ----------
    source : WindowData or DeviceWindows
        What is read from; between `prepare` and `take` nobody else may read from it.
    windows : sequence of Window
        All windows that indices of shares point to.
    fields : sequence of str
        What a batch holds.
    """

    def __init__(
        self,
        source: WindowData | DeviceWindows,
        windows: Sequence[Window],
        fields: Sequence[Field],
    ):
        self._source, self._windows, self._fields = source, windows, fields
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._prepared: tuple[np.ndarray, Future[Batch]] | None = None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def prepare(self, share: Share | None) -> None:
        """Begin to read what is needed next; None where that is not known."""
        self._prepared = None
        if share is not None:
            self._prepared = share.indices, self._thread.submit(self._read, share.indices)

    def take(self, share: Share) -> Batch:
        """Return a share's windows, one tensor per field: the prepared ones, or read now.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        if self._prepared is not None:
            indices, future = self._prepared
            batch = future.result()
            if np.array_equal(indices, share.indices):
                return batch
        return self._read(share.indices)

    def _read(self, indices: np.ndarray) -> Batch:
        return self._source.batch([self._windows[index] for index in indices], self._fields)
