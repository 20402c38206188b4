"""What is refused before anything is computed: contradicting headers, a full or wrong disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import ConfigError, DataError, LaunchError
from preprocessing.job.selected_runs import SelectedRun
from preprocessing.job.shards import Shard

# As stores are merged.
_TR_TOLERANCE = 1e-3
_NAMED = 8


def check_repetition_times(runs: Sequence[SelectedRun], config: PreprocessConfig) -> None:
    """Refuse repetition times that cannot lie in one store or that the windows do not fit into.

    Headers that cannot be used are left to the steps of their recordings.

    Parameters
    ----------
    runs : sequence of SelectedRun
    config : PreprocessConfig

    Raises
    ------
    ConfigError
        If ``eeg.window_s`` is longer than a repetition time.
    DataError
        If repetition times differ.
    """
    by_tr_s: dict[float, list[str]] = {}
    for run in runs:
        if run.header is not None:
            tr_s = run.header.tr_s
            near = (tr for tr in by_tr_s if math.isclose(tr, tr_s, rel_tol=_TR_TOLERANCE))
            by_tr_s.setdefault(next(near, tr_s), []).append(run.key)
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


def check_output(output: Path) -> None:
    """Refuse an output that can never be written.

    Raises
    ------
    ConfigError
        If it is a folder, or lies in something that is none.
    """
    if output.is_dir():
        raise ConfigError(
            f"output is the folder {output}",
            remedy="name the file to write, such as " + str(output / "store.h5"),
        )
    folder = _existing(output)
    if not folder.is_dir():
        raise ConfigError(
            f"output lies in {folder}, which is no folder", remedy="set another `output`"
        )


def check_space(config: PreprocessConfig, stale: Sequence[Shard], merged: Sequence[Shard]) -> None:
    """Refuse to begin hours of work whose result has no room.

    Raises
    ------
    LaunchError
        If the disk has less free space than shards and store need.
    """
    needed, free = bytes_needed(config, stale, merged), free_bytes(config.output)
    if config.compression == "none" and needed > free:
        raise LaunchError(
            f"no space left on the disk: about {needed:,} bytes are needed, {free:,} are free",
            where=config.output,
            remedy="free space, or set another `output`",
        )


def bytes_needed(config: PreprocessConfig, stale: Sequence[Shard], merged: Sequence[Shard]) -> int:
    """Return the size of the shards to compute and of the store to merge, uncompressed.

    Shards whose BOLD header cannot be used count nothing: their recordings' own steps will fail.
    """
    n_volumes = sum(shard.header.n_kept for shard in (*stale, *merged) if shard.header)
    return 4 * math.prod(config.bold.grid) * n_volumes


def free_bytes(output: Path) -> int:
    """Return the free bytes of the disk on which a file is, or will be."""
    return shutil.disk_usage(_existing(output)).free


def as_text(size: float) -> str:
    """Return a number of bytes as text."""
    if size >= 1e12:
        return f"{size / 1e12:.1f} TB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _existing(output: Path) -> Path:
    """The nearest thing above that exists."""
    return next(parent for parent in output.absolute().parents if parent.exists())
