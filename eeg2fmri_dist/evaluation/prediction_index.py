"""The index of a folder of predictions: a page that leads to the page of each recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eeg2fmri_dist.evaluation.templates import render
from eeg2fmri_dist.files import write_text
from eeg2fmri_dist.predicted_run import DISCLAIMER

INDEX = "index.html"
_SUFFIX = "_desc-predicted.html"


def write_index(folder: Path, failed: Mapping[str, str]) -> None:
    """Write ``index.html`` into the output of ``launch/predict.py``.

    Parameters
    ----------
    folder : Path
        All pages in it are listed, those of earlier commands, too.
    failed : mapping of str to str
        Recording -> why it could not be predicted just now.
    """
    pages = sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
    tried = {key: why for key, why in failed.items() if f"{key}{_SUFFIX}" not in pages}
    filters = {"title_of": lambda name: name.removesuffix(_SUFFIX).replace("_", " ")}
    shown = {"pages": pages, "failed": tried, "disclaimer": DISCLAIMER}
    write_text(folder / INDEX, render("predictions.html.j2", filters, shown))
