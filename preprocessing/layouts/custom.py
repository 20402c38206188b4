"""A lab's own layout: recordings found by a function in a Python file that the config names.

The file defines ``find_recordings(source)``, which gets the `SourceConfig` and returns (or yields)
`preprocessing.recordings.Recording`; docs/own_data.md has an example.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.recordings import KnownTruth, Recording

FUNCTION = "find_recordings"


def find_recordings(source: SourceConfig) -> list[Recording]:
    """All recordings that the file ``source.layout`` finds.

    Parameters
    ----------
    source : SourceConfig
        `layout` is the file; the filters are applied by others.

    Returns
    -------
    list of Recording
        Relative paths are taken as relative to ``source.path``, which the function gets as an
        absolute one; ``source.tr_s`` wins over the
        layout's repetition time.

    Raises
    ------
    DataError
        If the file cannot be run, defines no such function, or returns something else.
    """
    layout = source.layout
    assert layout is not None  # the config says so
    # A path that starts at the folder and one that starts with it can so be told apart.
    source = source.model_copy(update={"path": source.path.absolute()})
    function = _function(layout)
    try:
        found = list(function(source))
    except Exception as error:  # the code is not ours
        raise _failed(layout, error) from error
    return [_completed(item, source) for item in found]


def _function(layout: Path) -> Callable[[SourceConfig], Any]:
    spec = importlib.util.spec_from_file_location("_own_layout", layout)
    if spec is None or spec.loader is None or not layout.is_file():
        raise DataError(
            "no Python file", where=layout, remedy="name one that ends in .py in source.layout"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the code is not ours
        raise _failed(layout, error) from error
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise DataError(
            f"the file defines no function {FUNCTION}(source)",
            where=layout,
            remedy="define it as in docs/own_data.md",
        )
    return function


def _failed(layout: Path, error: Exception) -> DataError:
    """Error for code of the file that raised one; says at which of its lines."""
    lines = [
        str(frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(layout)
    ]
    if isinstance(error, SyntaxError):
        lines = [str(error.lineno)]
    place = f"line {lines[-1]}: " if lines else ""
    return DataError(
        f"{place}{type(error).__name__}: {error}",
        where=layout,
        remedy="correct the layout; --debug shows the traceback",
    )


def _completed(item: object, source: SourceConfig) -> Recording:
    """A recording with whole paths and the configured repetition time."""
    if not isinstance(item, Recording):
        raise DataError(
            f"{FUNCTION} gave {item!r} ({type(item).__name__}), not a Recording",
            where=source.layout,
            remedy="return preprocessing.recordings.Recording objects",
        )
    t1_path, truth = item.t1_path, item.truth
    return replace(
        item,
        eeg_path=source.path / item.eeg_path,
        bold_path=source.path / item.bold_path,
        t1_path=None if t1_path is None else source.path / t1_path,
        tr_s=source.tr_s or item.tr_s,
        truth=None if truth is None else _whole_paths(truth, source.path),
    )


def _whole_paths(truth: KnownTruth, root: Path) -> KnownTruth:
    clean, head_map = truth.clean_eeg_path, truth.head_map_path
    return KnownTruth(
        None if clean is None else root / clean, None if head_map is None else root / head_map
    )
