"""How benchmarks measure: pairs of timings taken in turn, medians of their ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measurement:
    """What one benchmark found.

    Attributes
    ----------
    value : float
        Usually a ratio of two times.
    unit : str
        Of the value; ``ratio`` where it has none.
    against : str
        What it was compared with.
    target : str
        What was wanted, such as ``<= 1.03``; empty where nothing was.
    spread : tuple of float
        Quartiles of the value over the rounds.
    notes : list of str
        Lines below the table: absolute numbers, tables.
    """

    value: float
    unit: str
    against: str
    target: str = ""
    spread: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or, without a target, nothing."""
        if not self.target:
            return ""
        sign, limit = self.target.split()
        met = self.value <= float(limit) if sign == "<=" else self.value >= float(limit)
        return "met" if met else "missed"


@dataclass(frozen=True)
class Pair:
    """Times of two alternatives, taken in turn."""

    ours_s: list[float]
    theirs_s: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, round by round."""
        return [ours / theirs for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True)]

    def measurement(self, against: str, target: str, notes: list[str] | None = None) -> Measurement:
        """Return the median ratio of ours over theirs, and the times."""
        times = (
            f"ours {statistics.median(self.ours_s) * 1e3:.1f} ms, "
            f"{against} {statistics.median(self.theirs_s) * 1e3:.1f} ms"
        )
        return Measurement(
            value=statistics.median(self.ratios),
            unit="ratio",
            against=against,
            target=target,
            spread=quartiles(self.ratios),
            notes=[times, *(notes or [])],
        )


def time_in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, warm_up: int = 1
) -> Pair:
    """Call two alternatives in turn, `rounds` times each; the order changes every round."""
    for _ in range(warm_up):
        ours()
        theirs()
    times: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            times[which].append(seconds(theirs if which else ours))
    return Pair(times[0], times[1])


def seconds(act: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def quartiles(values: list[float]) -> tuple[float, float]:
    """Return the first and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4)
    return low, high
