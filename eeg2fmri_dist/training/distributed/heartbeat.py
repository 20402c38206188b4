"""Signs of life of all ranks, and the name of the one that gives none.

A rank that hangs stops all others inside a collective call, where none of them can say why. So a
thread of each rank tells a store on rank 0's host what its main thread is doing; when nothing has
moved for too long, each rank reads who was last where, prints it and ends with exit code 5.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from eeg2fmri_dist.cli.signals import end_process
from eeg2fmri_dist.errors import DivergedError
from eeg2fmri_dist.training.distributed.collectives import from_first, several_ranks
from eeg2fmri_dist.training.distributed.ranks import Ranks

_LONGEST_INTERVAL_S = 5.0
_STORE_TIMEOUT = timedelta(seconds=10)
_SILENT_INTERVALS = 4


class Heartbeat:
    """Watches the progress of this rank and knows that of the others.

    Parameters
    ----------
    ranks : Ranks
        This process among the others.
    timeout_s : float
        Seconds without progress after which the training is ended.
    """

    def __init__(self, ranks: Ranks, timeout_s: float):
        self._ranks, self._timeout_s = ranks, timeout_s
        self._interval_s = min(_LONGEST_INTERVAL_S, timeout_s / 10)
        self._moved = time.monotonic()
        self._place: tuple[int, str] = (0, "start")
        self._main = threading.get_ident()
        self._store = _open_store(ranks)
        self._told = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def at(self, step: int, act: str) -> None:
        """Note what the main thread does from now on, such as ``reading a batch``."""
        self._place = (step, act)
        self._moved = time.monotonic()

    def note_progress(self) -> None:
        """Note that a part of what the main thread does is done."""
        self._moved = time.monotonic()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join(_STORE_TIMEOUT.total_seconds())  # a process must not end within torch

    def look_around(self) -> str:
        """Wait for signs of life; return one line per rank: what it does, or that it is gone."""
        before = self._read_all()
        for _ in range(_SILENT_INTERVALS):
            time.sleep(self._interval_s)
            self._tell()
        after = self._read_all()
        if after[0] is None:
            return "  rank 0 is gone, and with it what is known of the others"
        return "\n".join(
            f"  rank {rank}: {_describe(beat, silent=beat == before[rank])}"
            for rank, beat in enumerate(after)
        )

    def _run(self) -> None:
        self._tell()
        while not self._ended.wait(self._interval_s):
            self._tell()
            if time.monotonic() - self._moved > self._timeout_s:
                self._end()

    def _tell(self) -> None:
        self._told += 1
        step, act = self._place
        beat = {
            "number": self._told,
            "host": socket.gethostname(),
            "step": step,
            "act": act,
            "still_s": time.monotonic() - self._moved,
            "frame": self._frame(),
        }
        if self._store is not None:
            try:
                self._store.set(f"rank-{self._ranks.rank}", json.dumps(beat))
            except RuntimeError:  # rank 0 is gone: seen when the beats are read
                return

    def _read_all(self) -> list[dict[str, Any] | None]:
        return [self._read(rank) for rank in range(self._ranks.world_size)]

    def _read(self, rank: int) -> dict[str, Any] | None:
        key = f"rank-{rank}"
        try:
            if self._store is None or not self._store.check([key]):
                return None
            return json.loads(self._store.get(key))
        except RuntimeError:
            return None

    def _frame(self) -> str:
        """Innermost line of this project's code that the main thread is in."""
        frame = sys._current_frames().get(self._main)
        package = str(Path(__file__).resolve().parents[1])
        own = [f for f in traceback.extract_stack(frame) if f.filename.startswith(package)]
        if not own:
            return "start-up"
        return f"{Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].name})"

    def _end(self) -> None:
        where = self.look_around() if self._store is not None else f"  in {self._frame()}"
        end_process(
            DivergedError(
                f"no progress for {self._timeout_s:.0f} s; what each rank is doing:\n{where}",
                remedy="look at the rank that does something else than the others, or is silent; "
                "the last checkpoint is kept and the same command continues from it",
            )
        )


def is_lost_peer(error: RuntimeError) -> bool:
    """Tell whether an error of a collective call means that another rank went away."""
    text = str(error)
    return isinstance(error, dist.DistError) or any(
        sign in text
        for sign in ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")
    )


def _describe(beat: dict[str, Any] | None, *, silent: bool) -> str:
    if beat is None:
        return "never gave a sign of life"
    text = f"on {beat['host']}, step {beat['step']}, {beat['act']} for {beat['still_s']:.0f} s"
    return f"{text}, then silent: frozen or dead" if silent else f"{text}, in {beat['frame']}"


def _open_store(ranks: Ranks) -> dist.TCPStore | None:
    """Open the store that rank 0 serves to all others (collective)."""
    if not several_ranks():
        return None
    host = os.environ["MASTER_ADDR"]
    store = None
    if ranks.is_first:
        store = dist.TCPStore(
            host, 0, is_master=True, timeout=_STORE_TIMEOUT, wait_for_workers=False
        )
    port = from_first(store.port if store is not None else None)
    if store is None:
        store = dist.TCPStore(
            host, port, is_master=False, timeout=_STORE_TIMEOUT, wait_for_workers=False
        )
    return store
