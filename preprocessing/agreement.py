"""What settings and headers can contradict, found before anything is computed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing import steps
from preprocessing.recordings import Recording

# As stores are merged.
_TR_TOLERANCE = 1e-3
_NAMED = 8


def check_repetition_times(recordings: Sequence[Recording], config: PreprocessConfig) -> None:
    """Refuse repetition times that cannot lie in one store or that the windows do not fit into.

    Headers that cannot be read are left to the steps of their recordings.

    Parameters
    ----------
    recordings : sequence of Recording
    config : PreprocessConfig

    Raises
    ------
    ConfigError
        If ``eeg.window_s`` is longer than a repetition time.
    DataError
        If repetition times differ.
    """
    by_tr_s: dict[float, list[str]] = {}
    for recording in recordings:
        with contextlib.suppress(DataError):
            tr_s = steps.open_run(recording, config).tr_s
            near = (tr for tr in by_tr_s if math.isclose(tr, tr_s, rel_tol=_TR_TOLERANCE))
            by_tr_s.setdefault(next(near, tr_s), []).append(recording.key)
    shortest_s = min(by_tr_s, default=math.inf)
    if config.eeg.window_s > shortest_s:
        raise ConfigError(
            f"the Fourier window of {config.eeg.window_s:g} s is longer than the TR of "
            f"{shortest_s:g} s of {_names(by_tr_s[shortest_s])}",
            where="eeg.window_s",
            remedy="use a window of at most one TR",
        )
    if len(by_tr_s) > 1:
        groups = [f"{tr_s:g} s: {_names(by_tr_s[tr_s])}" for tr_s in sorted(by_tr_s)]
        raise DataError(
            "\n  ".join(
                ["a store has one repetition time, these recordings have several", *groups]
            ),
            where=config.source.path,
            remedy="select those of one (source.tasks, source.sessions, source.exclude), or set "
            "source.tr_s if headers are wrong",
        )


def _names(keys: Sequence[str]) -> str:
    """Keys as text, the first of many."""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more
