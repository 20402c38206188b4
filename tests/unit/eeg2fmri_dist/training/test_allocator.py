"""Freed memory stays with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import ctypes
import resource
from eeg2fmri_dist.training.distributed.allocator import keep_freed_memory

c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
MIB = 1 << 20

def step():
    blocks = [c.malloc(MIB) for _ in range(100)]
    for block in blocks:
        c.memset(block, 1, MIB)
    for block in reversed(blocks):
        c.free(block)

if {keep}:
    keep_freed_memory()
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


def _faults_per_step(keep: bool, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    script = STEPS.format(keep=keep)
    command = [sys.executable, "-c", script]
    finished = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True
    )
    return int(finished.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_reuses_the_memory_of_the_last_one():
    assert _faults_per_step(keep=False) > 1_000
    assert _faults_per_step(keep=True) < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_thresholds_of_the_environment_stay():
    assert _faults_per_step(keep=True, MALLOC_TRIM_THRESHOLD_="1048576") > 1_000
