"""The index of a folder of predictions: a page that leads to the page of each recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.prediction.outputs import DISCLAIMER

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
    found = sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
    # The page of an earlier command does not make up for a failure of this one.
    older = [name for name in found if name.removesuffix(_SUFFIX) in failed]
    pages = [name for name in found if name not in older]
    filters = {"title_of": lambda name: name.removesuffix(_SUFFIX).replace("_", " ")}
    shown = {"pages": pages, "failed": failed, "older": older, "suffix": _SUFFIX}
    shown |= {"disclaimer": DISCLAIMER}
    page = render("eeg2fmri_dist/prediction/predictions.html.j2", shown, filters)
    write_text(folder / INDEX, page)
