"""Random numbers that depend on the seed, the subject and the purpose, and on nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a generator of its own for each seed and each tuple of names.

    Subjects and steps do not share a stream, so neither their order nor the number of worker
    processes changes what is drawn.
    """
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
