"""Waiting for the other ranks of a training to come up."""

from __future__ import annotations

import datetime
import os
import threading

import torch.distributed as dist

from eeg2fmri_dist.early_stop import end_process
from eeg2fmri_dist.errors import LaunchError, StoppedError
from eeg2fmri_dist.ranks import Ranks
from eeg2fmri_dist.training.preemption import StopAskedError, StopRequest

_JOIN_TIMEOUT = datetime.timedelta(minutes=5)
_COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)  # the watchdog names the rank before that
_POLL_S = 0.05


def join_ranks(ranks: Ranks, backend: str, stop: StopRequest | None) -> None:
    """Make the process group of all ranks.

    Torch waits where no signal handler of Python runs, so it waits in a thread. A signal that
    comes while it waits ends the process with exit code 75: there is nothing to save, and a thread
    in torch's waiting would abort a process that ends in the usual way.

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
        If not all ranks came within five minutes.
    """
    failures: list[Exception] = []

    def join() -> None:
        try:
            store, rank, world_size = next(dist.rendezvous("env://", timeout=_JOIN_TIMEOUT))
            dist.init_process_group(
                backend,
                store=dist.PrefixStore("training", store),
                rank=rank,
                world_size=world_size,
                timeout=_COLLECTIVE_TIMEOUT,
            )
        except Exception as error:  # raised again on the main thread
            failures.append(error)

    thread = threading.Thread(target=join, name="joining", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        if stop is not None and stop.received and thread.is_alive():
            end_process(stopped_before_start(stop))
    if failures and stop is not None and stop.received:
        raise StopAskedError
    if failures:
        raise LaunchError(
            f"rank {ranks.rank} of {ranks.world_size} could not join the others "
            f"({str(failures[0]).splitlines()[0]})",
            where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            remedy="look for a rank that ended before; a firewall or the wrong network interface "
            "between nodes has the same effect",
        ) from failures[0]


def stopped_before_start(stop: StopRequest) -> StoppedError:
    """Return what a training ends with that was asked to stop before its first step."""
    return StoppedError(
        f"stopped by {stop.name} before the first step", remedy="the same command starts again"
    )
