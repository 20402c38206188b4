"""Order of training windows: resumable at any world size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Share:
    """One rank's part of one micro-batch.

    Attributes
    ----------
    indices : ndarray of int
        Windows to read; never empty.
    weight : float
        Factor on the mean loss of these windows that makes the mean over ranks and micro-batches
        the mean over the whole batch; 0 for a rank that has no window of its own.
    """

    indices: np.ndarray
    weight: float


class BatchSampler:
    """Shuffled batches whose whole state is (seed, epoch, windows consumed in the epoch).

    Parameters
    ----------
    n_windows : int
        Windows of an epoch.
    batch_size : int
        Windows per optimizer step, over all ranks; an epoch's last batch may be smaller.
    seed : int
        Of the shuffles.
    """

    def __init__(self, n_windows: int, batch_size: int, seed: int):
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.epoch = 0
        self.consumed = 0
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=int))

    @property
    def batches_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-self.n_windows // self.batch_size)

    def peek_batch(self) -> np.ndarray:
        """Return the windows of the next optimizer step."""
        return self._shifted()[self.consumed : self.consumed + self.batch_size]

    def next_batch(self) -> np.ndarray:
        """Return the windows of the next optimizer step and move on."""
        batch = self.peek_batch()
        self.consumed += len(batch)
        if self.consumed >= self.n_windows:
            self.epoch, self.consumed = self.epoch + 1, 0
        return batch

    def _shifted(self) -> np.ndarray:
        epoch, order = self._order
        if epoch != self.epoch:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n_windows)
            self._order = self.epoch, order
        return order

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position; the batch size and world size may have changed since."""
        self.seed, self.epoch, self.consumed = state["seed"], state["epoch"], state["consumed"]
        self._order = (-1, self._order[1])


def shares(batch: np.ndarray, rank: int, world_size: int, micro_batches: int) -> list[Share]:
    """Return what one rank reads of a batch, one share per micro-batch."""
    result = []
    for micro in range(micro_batches):
        own = batch[micro::micro_batches][rank::world_size]
        weight = len(own) * world_size * micro_batches / len(batch)
        result.append(Share(own if len(own) else batch[:1], weight))
    return result
