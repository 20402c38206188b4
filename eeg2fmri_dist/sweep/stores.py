"""A sweep's trials belong to the data that they were trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.files.made_from import differences, read_record, shown
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.sweep.folder import SweepFolder

NAME = "stores.json"


def require_same_stores(folder: SweepFolder, stores: Iterable[Path]) -> None:
    """Remember the fingerprints of a sweep's stores, or check that they are still the same.

    Parameters
    ----------
    folder : SweepFolder
        Keeps them in ``stores.json``.
    stores : iterable of Path
        Those that are not there (yet) are left to the trials to miss.

    Raises
    ------
    DataError
        If a store was made anew since the sweep was begun: trials that are done would stand beside
        trials of other data.
    """
    path = folder.root / NAME
    known = read_record(path)
    now = {str(store): Store(store).fingerprint for store in stores if store.exists()}
    for name, old, new in differences(known, known | now):
        if old is not None:
            raise DataError(
                f"has changed since the sweep {folder.root} was begun (fingerprint {shown(old)} "
                f"then, {shown(new)} now)",
                where=name,
                remedy="give another output=..., or delete the sweep's folder to begin again",
            )
    write_json(path, known | now)
