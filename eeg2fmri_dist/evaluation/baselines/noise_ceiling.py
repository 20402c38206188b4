"""The noise ceiling of simulated recordings: what a prediction from EEG can reach at best.

The simulator writes down which part of each region's BOLD the EEG shows. That part, without noise,
is scored like any other prediction; every model's r is then also given as a share of its r.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording
from eeg2fmri_dist.store import Layout

_SMALLEST_CEILING = 0.05
_KEYS = ("bold_driven", "labels_native", "grey_matter_native", "native_to_mni_mm")


@dataclass(frozen=True)
class Ceiling:
    """Predicts the noise-free BOLD that the EEG shows.

    Attributes
    ----------
    folder : Path
        Holds ``sub-<id>.npz`` of each simulated subject.
    layout : Layout
        Of the store.
    reference : ndarray of shape (x, y, z)
        Image that changes: the mean image of the training subjects, as for a model.
    """

    folder: Path
    layout: Layout
    reference: np.ndarray

    def __call__(self, recording: ScoredRecording) -> np.ndarray:
        """Return the volumes (volume, x, y, z) of a recording.

        Raises
        ------
        DataError
            If the subject's truth is missing, damaged or shorter than the recording.
        """
        path = self.folder / f"sub-{recording.subject}.npz"
        truth = read_truth(path)
        first = int(self.layout.settings.get("dummy_scans", 0))
        percent = truth["bold_driven"][first : first + len(recording.true)]
        if len(percent) < len(recording.true):
            raise DataError(
                f"tells of {len(percent)} volumes after the first {first}, the store has "
                f"{len(recording.true)}",
                where=path,
                remedy="give the truth of the recordings that the store was made from",
            )
        region, share = regions_on_grid(truth, self.layout)
        # Label 0 is no region: nothing changes there.
        change = np.concatenate([np.zeros((len(percent), 1)), percent / 100], axis=1)
        return (self.reference * (1 + share * change[:, region])).astype(np.float32)


def shared_noise(folder: Path, layout: Layout, recording: ScoredRecording) -> np.ndarray:
    """Return the noise that a simulated subject's BOLD and EEG share, (volume,), in percent.

    Zeros where there is none; see docs/simulations.md.

    Raises
    ------
    DataError
        If the subject's truth is missing or damaged.
    """
    # Truths of simulations without `realism` do not name it.
    truth = read_truth(folder / f"sub-{recording.subject}.npz", (), ("bold_shared_noise",))
    if "bold_shared_noise" not in truth:
        return np.zeros(len(recording.true))
    first = int(layout.settings.get("dummy_scans", 0))
    return truth["bold_shared_noise"][first : first + len(recording.true)]


def regions_on_grid(
    truth: Mapping[str, np.ndarray], layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Return region and share of its signal of the measured voxel nearest to each store's voxel.

    Parameters
    ----------
    truth : mapping of str to ndarray
        ``labels_native`` and ``grey_matter_native``, of the voxels of the BOLD run, and where
        these lie: ``native_to_mni_mm``, (x, y, z, 3).
    layout : Layout
        Grid and affine of the store.

    Returns
    -------
    tuple of ndarray of shape (x, y, z)
        Region, 0 = none, and share; 0 outside the mask.
    """
    from scipy.spatial import KDTree

    affine, mask = layout.affine, layout.mask.astype(bool)
    centers = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    nearest = KDTree(truth["native_to_mni_mm"].reshape(-1, 3)).query(centers)[1]
    region, share = np.zeros(mask.shape, int), np.zeros(mask.shape)
    region[mask] = truth["labels_native"].reshape(-1)[nearest]
    share[mask] = truth["grey_matter_native"].reshape(-1)[nearest]
    return region, share


def with_explained(rows: Sequence[ScoreRow], ceiling: ScoreRow) -> list[ScoreRow]:
    """Add ``explained`` (%) to each row: its r as a share of the ceiling's, squared, sign kept.

    A correlation that is squared is a share of variance; its ratio to the ceiling's is the share
    of the variance that can be explained at all. Subjects whose ceiling is below 0.05 get none.
    """
    highest = ceiling.values("r_region")
    return [
        row.with_scores(
            [
                (
                    subject,
                    {
                        "ceiling_normalized_r2": 100
                        * float(np.sign(r))
                        * (r / highest[subject]) ** 2
                    },
                )
                for subject, r in row.values("r_region").items()
                if highest.get(subject, 0.0) >= _SMALLEST_CEILING
            ]
        )
        for row in rows
    ]


def read_truth(
    path: Path, keys: Sequence[str] = _KEYS, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return arrays of a simulated subject's truth file (see preprocessing/simulation/truth.py).

    Parameters
    ----------
    path : Path
        ``sub-<id>.npz``.
    keys, optional : sequence of str
        Arrays that must be there, and those that may.

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            there = [key for key in optional if key in archive]
            return {key: archive[key] for key in (*keys, *there)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"not a whole truth file of a simulated subject ({error})",
            where=path,
            remedy="let `truth` name the folder that launch/simulate.py wrote, or leave it out",
        ) from None
