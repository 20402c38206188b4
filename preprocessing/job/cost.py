"""What a step costs: time, processor time and peak memory of the process that runs it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Cost:
    """What one step took on its worker.

    Attributes
    ----------
    seconds : float
        Wall-clock time in s.
    cpu_s : float
        Processor time of the worker process meanwhile, in s.
    peak_bytes : int
        Largest resident memory of the worker process meanwhile.
    host : str
        Machine.
    pid : int
        Worker process.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    host: str
    pid: int


class Meter:
    """Measures from its making on."""

    def __init__(self) -> None:
        # 5 resets the peak, of this process alone (proc(5)).
        with contextlib.suppress(OSError):
            (_PROCESS / "clear_refs").write_text("5")
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def cost(self) -> Cost:
        """Return what was spent so far."""
        return Cost(
            seconds=round(time.perf_counter() - self._began, 3),
            cpu_s=round(time.process_time() - self._cpu, 3),
            peak_bytes=_peak_bytes(),
            host=socket.gethostname(),
            pid=os.getpid(),
        )


def _peak_bytes() -> int:
    """Peak since it was reset; since the start of the process where that is not possible."""
    with contextlib.suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
