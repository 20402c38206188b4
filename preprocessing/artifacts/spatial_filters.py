"""Linear maps over EEG channels whose places on the head are known, as matrices.

MNE has each as a method of recordings; applied to unit vectors it gives its matrix, which serves
whatever the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError

if TYPE_CHECKING:
    import mne

MONTAGE = "colin27_1005"
OTHER_NAMES = {"O9": "I1", "O10": "I2"}  # some caps' names -> the 10-05 system's


def interpolation(names: Sequence[str], bad: Sequence[str], where: Path) -> np.ndarray:
    """Matrix that replaces bad channels by spherical splines through the others.

    `mne.Evoked.interpolate_bads` (Perrin et al. 1989).

    Parameters
    ----------
    names, bad : sequence of str
        All channels, and those to replace.
    where : Path
        The recording, for messages.

    Returns
    -------
    array (channel, channel) of float32

    Raises
    ------
    DataError
        If the place of a channel on the head is not known.
    """
    unit = _unit_vectors(names, f"bad channels ({', '.join(bad)}) cannot be interpolated", where)
    unit.info["bads"] = list(bad)
    return unit.interpolate_bads(verbose="error").data.astype(np.float32)


def surface_laplacian(names: Sequence[str], where: Path) -> np.ndarray:
    """Matrix that turns potentials into what each channel sees beyond its neighbors.

    `mne.preprocessing.compute_current_source_density` with its defaults (Perrin et al. 1989;
    Kayser and Tenke 2006), which removes most of what volume conduction spreads over the head, and
    the reference. Scaled by one number, so that a channel has a weight of 1 in itself on average
    and the result is of the size of uV.

    Parameters
    ----------
    names : sequence of str
        Channels.
    where : Path
        The recording, for messages.

    Returns
    -------
    array (channel, channel) of float32

    Raises
    ------
    DataError
        If the place of a channel on the head is not known.
    """
    from mne.preprocessing import compute_current_source_density

    unit = _unit_vectors(names, "there is no surface Laplacian (eeg.spatial_filter)", where)
    matrix = compute_current_source_density(unit, verbose="error").data
    return (matrix / np.diag(matrix).mean()).astype(np.float32)


def _unit_vectors(names: Sequence[str], problem: str, where: Path) -> mne.EvokedArray:
    """One sample for each channel, which is 1 there and 0 elsewhere."""
    import mne

    montage = mne.channels.make_standard_montage(MONTAGE)
    places = {name.lower(): place for name, place in montage.get_positions()["ch_pos"].items()}
    found = {name: places.get(OTHER_NAMES.get(name, name).lower()) for name in names}
    if unknown := [name for name, place in found.items() if place is None]:
        raise DataError(
            f"{problem}: the places of {', '.join(unknown)} are not in the 10-05 system",
            where=where,
            remedy="add the channels to eeg.drop_channels",
        )
    info = mne.create_info(list(names), 1000.0, "eeg")
    info.set_montage(mne.channels.make_dig_montage(found, coord_frame="head"), verbose="error")
    return mne.EvokedArray(np.eye(len(names)), info, verbose="error")
