"""Commands in processes of their own, on cores of their own, and what they used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.trainings import ROOT

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}


@dataclass(frozen=True)
class Usage:
    """What a command used, the processes that it started included.

    Attributes
    ----------
    wall_s, cpu_s : float
        Time passed, and processor time.
    peak_bytes : int
        Largest resident memory of one of its processes.
    output : str
        What it wrote to its standard output.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


def use(arguments: Sequence[str], cores: int) -> Usage:
    """Run Python with these arguments in the repository, one thread a process, to its end."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        # Of the process and all that it started and waited for.
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(arguments)} failed:\n{errors.read()}")
        return Usage(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, output.read())
