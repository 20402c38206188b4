"""What a process of a training works with, whatever is fitted: ranks, device, stop, heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from eeg2fmri_dist.errors import LaunchError
from eeg2fmri_dist.training.distributed.engine import leave_process_group, start_process_group
from eeg2fmri_dist.training.distributed.heartbeat import Heartbeat, is_lost_peer
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.rendezvous import stopped_before_start


@dataclass(frozen=True)
class Session:
    """One process of a training, joined with the others.

    Attributes
    ----------
    ranks : Ranks
        This process among the others.
    device : torch.device
        Where it computes.
    stop : StopRequest
        Listening for signals.
    heartbeat : Heartbeat
        Told of what the main thread does.
    """

    ranks: Ranks
    device: torch.device
    stop: StopRequest
    heartbeat: Heartbeat


@contextmanager
def open_session(ranks: Ranks, stop: StopRequest, stall_timeout_s: float) -> Iterator[Session]:
    """Join the other ranks, and leave them in the end (collective).

    Parameters
    ----------
    ranks : Ranks
        Already written into the environment by `discover_ranks`.
    stop : StopRequest
        Listening for signals since the process started; whoever made it closes it.
    stall_timeout_s : float
        Seconds without progress after which the heartbeat ends the process.

    Yields
    ------
    Session

    Raises
    ------
    StoppedError
        If ranks agreed to stop, and nobody inside has saved and said so.
    LaunchError
        If a rank did not come, or went away; it says what each rank was doing.
    """
    try:
        device = start_process_group(ranks, stop)
    except StopAskedError:
        raise stopped_before_start(stop) from None
    heartbeat = Heartbeat(ranks, stall_timeout_s)
    try:
        yield Session(ranks, device, stop, heartbeat)
    except StopAskedError:
        raise stopped_before_start(stop) from None
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise LaunchError(
            f"the other ranks cannot be reached; what each was doing:\n{heartbeat.look_around()}",
            remedy="look for the reason in the output of the rank that ended first; the same "
            "command continues from the last checkpoint",
        ) from error
    finally:
        heartbeat.close()
        leave_process_group()
