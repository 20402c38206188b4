"""How far the steps are, and how long the others will take."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class Progress:
    """Logs each finished step with the time left; on a terminal, shows a bar too.

    Parameters
    ----------
    work : mapping
        What each step is expected to take, in any unit, by the step's name.
    """

    def __init__(self, work: Mapping[str, float]):
        self._left = dict(work)
        self._total = sum(work.values()) or 1.0
        self._n_steps = len(work)
        self._began = time.monotonic()
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        self._bar = _bar(self._closing)
        self._task = self._bar.add_task("recordings", total=self._total) if self._bar else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def finished(self, step: str) -> None:
        """Count a step as done."""
        self.failed(step)
        number = self._n_steps - len(self._left)
        logger.info("[%d/%d] %s done%s", number, self._n_steps, step, self._time_left())

    def failed(self, step: str) -> None:
        """Count a step as nothing to wait for."""
        advance = self._left.pop(step)
        if self._bar is not None:
            self._bar.advance(self._task, advance)

    def _time_left(self) -> str:
        """The time that the rest takes if it goes on as before."""
        left = sum(self._left.values())
        done = self._total - left
        if not self._left or done <= 0:
            return ""
        return f", {_duration((time.monotonic() - self._began) * left / done)} left"


def _bar(closing: contextlib.ExitStack) -> Any:
    """A bar below the log lines, where these go to a terminal; else None."""
    from rich.logging import RichHandler

    handlers = [each for each in logging.getLogger().handlers if isinstance(each, RichHandler)]
    if not handlers or not handlers[0].console.is_terminal:
        return None
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=False),
    )
    return closing.enter_context(
        progress.Progress(*columns, console=handlers[0].console, transient=True)
    )


def _duration(seconds: float) -> str:
    """A span of time in the unit in which people say it."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
