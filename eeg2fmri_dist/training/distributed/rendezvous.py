"""Waiting for the other ranks of a training to come up."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import time

import torch.distributed as dist

from eeg2fmri_dist.cli.signals import end_process
from eeg2fmri_dist.errors import LaunchError, StoppedError, SuiteError
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks

_JOIN_TIMEOUT = datetime.timedelta(minutes=5)
_COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)  # the watchdog names the rank before that
_NOTES_TIMEOUT = datetime.timedelta(seconds=20)
_POLL_S = 0.05
_LOOK_EVERY_S = 0.5
_LINGER_S = 4 * _LOOK_EVERY_S
_STOPPED = "stopped"


def join_ranks(ranks: Ranks, backend: str, stop: StopRequest | None) -> None:
    """Make the process group of all ranks.

    Torch waits where no signal handler of Python runs, so it waits in a thread. A signal that
    comes to any rank meanwhile ends all of them with exit code 75: there is nothing to save, and a
    thread in torch's waiting would abort a process that ends in the usual way.

    Parameters
    ----------
    ranks : Ranks
        This process among the others; the environment says where rank 0 is.
    backend : str
        ``gloo`` or ``nccl``.
    stop : StopRequest or None
        Heeded while waiting.

    Raises
    ------
    StopAskedError
        If a signal came and the others are gone.
    LaunchError
        If not all ranks came within five minutes. A process whose waiting cannot be ended says
        so, too, and ends with the same exit code.
    """
    joining = _Joining(ranks, backend)
    while not joining.is_over(_POLL_S):
        if stop is not None and stop.received:
            joining.leave(stopped_before_start(stop))
        joining.look_at_others()
    if joining.failure is None:
        return
    if stop is not None and stop.received:
        raise StopAskedError
    raise _did_not_join(ranks, str(joining.failure).splitlines()[0]) from joining.failure


def stopped_before_start(stop: StopRequest) -> StoppedError:
    """Return what a training ends with that was asked to stop before its first step."""
    return StoppedError(
        f"stopped by {stop.name} before the first step", remedy="the same command starts again"
    )


class _Joining:
    """A thread that joins the other ranks, and what is known of them meanwhile."""

    def __init__(self, ranks: Ranks, backend: str):
        self.failure: Exception | None = None
        self._ranks = ranks
        self._notes: dist.Store | None = None
        self._began = self._looked = time.monotonic()
        self._thread = threading.Thread(target=self._join, args=(backend,), daemon=True)
        self._thread.start()

    def is_over(self, timeout_s: float) -> bool:
        """Wait a moment; tell whether this rank has joined or failed to."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def leave(self, error: SuiteError) -> None:
        """Tell the others to leave, too, and end this process."""
        if self._notes is not None:
            with contextlib.suppress(RuntimeError):
                self._notes.set(_STOPPED, "yes")
            if self._ranks.is_first:
                time.sleep(_LINGER_S)  # the notes go with it
        end_process(error)

    def look_at_others(self) -> None:
        """End this process if another rank was asked to stop, or if waiting has no sense."""
        now = time.monotonic()
        if self._notes is None or now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        try:
            asked = self._notes.check([_STOPPED])
        except RuntimeError:
            end_process(_did_not_join(self._ranks, "rank 0 was there and left"))
        if asked:
            remedy = "the same command starts again"
            end_process(
                StoppedError("another rank was stopped before the first step", remedy=remedy)
            )
        if now - self._began > _JOIN_TIMEOUT.total_seconds():
            end_process(_did_not_join(self._ranks, f"not all came within {_JOIN_TIMEOUT}"))

    def _join(self, backend: str) -> None:
        try:
            self._notes = self._connect("joining")
            self._notes.set_timeout(_NOTES_TIMEOUT)
            dist.init_process_group(
                backend,
                store=self._connect("training"),
                rank=self._ranks.rank,
                world_size=self._ranks.world_size,
                timeout=_COLLECTIVE_TIMEOUT,
            )
        except Exception as error:  # raised again on the main thread
            self.failure = error

    def _connect(self, name: str) -> dist.Store:
        """Return a connection of its own to the store that rank 0 serves, or torchrun."""
        store, _, _ = next(dist.rendezvous("env://", timeout=_JOIN_TIMEOUT))
        return dist.PrefixStore(name, store)


def _did_not_join(ranks: Ranks, reason: str) -> LaunchError:
    return LaunchError(
        f"rank {ranks.rank} of {ranks.world_size} could not join the others ({reason})",
        where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        remedy="look for a rank that ended before; a firewall or the wrong network interface "
        "between nodes has the same effect",
    )
