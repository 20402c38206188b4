"""The noise ceiling of simulated recordings: what a prediction from EEG can reach at best.

The simulator writes down which part of each region's BOLD the EEG shows. That part, without noise,
is scored like any other prediction; every model's r is then also given as a share of its r.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.evaluation.results import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import TestRecording
from eeg2fmri_dist.store import Layout

_SMALLEST_CEILING = 0.05
_KEYS = ("bold_driven", "labels_mni", "mni_affine")


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

    def __call__(self, recording: TestRecording) -> np.ndarray:
        """Return the volumes (volume, x, y, z) of a recording.

        Raises
        ------
        DataError
            If the subject's truth is missing, damaged or shorter than the recording.
        """
        path = self.folder / f"sub-{recording.subject}.npz"
        truth = _read(path)
        first = int(self.layout.preprocessing.get("drop_volumes", 0))
        percent = truth["bold_driven"][first : first + len(recording.true)]
        if len(percent) < len(recording.true):
            raise DataError(
                f"tells of {len(percent)} volumes after the first {first}, the store has "
                f"{len(recording.true)}",
                where=path,
                remedy="give the truth of the recordings that the store was made from",
            )
        labels = labels_on_grid(truth["labels_mni"], truth["mni_affine"], self.layout)
        # Label 0 is no region: nothing changes there.
        change = np.concatenate([np.zeros((len(percent), 1)), percent / 100], axis=1)
        return (self.reference * (1 + change[:, labels])).astype(np.float32)


def labels_on_grid(labels: np.ndarray, affine: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the label of the voxel that is nearest to the centre of each voxel of the store.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        In MNI space.
    affine : ndarray of shape (4, 4)
        Voxel of `labels` -> MNI mm.
    layout : Layout
        Grid and affine of the store.
    """
    to_labels = np.linalg.inv(affine) @ layout.affine
    voxels = np.indices(layout.mask.shape).reshape(3, -1)
    nearest = np.rint(to_labels[:3, :3] @ voxels + to_labels[:3, 3:]).astype(int)
    limits = np.array(labels.shape)[:, None]
    inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
    x, y, z = np.clip(nearest, 0, limits - 1)
    return np.where(inside, labels[x, y, z], 0).reshape(layout.mask.shape).astype(int)


def with_explained(rows: Sequence[ScoreRow], ceiling: ScoreRow) -> list[ScoreRow]:
    """Add ``explained`` (%) to each row: its r as a share of the ceiling's, squared, sign kept.

    A correlation that is squared is a share of variance; its ratio to the ceiling's is the share
    of the variance that can be explained at all. Subjects whose ceiling is below 0.05 get none.
    """
    highest = ceiling.values("r_region")
    return [
        row.with_scores(
            [
                (subject, {"explained": 100 * float(np.sign(r)) * (r / highest[subject]) ** 2})
                for subject, r in row.values("r_region").items()
                if highest.get(subject, 0.0) >= _SMALLEST_CEILING
            ]
        )
        for row in rows
    ]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in _KEYS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"not a whole truth file of a simulated subject ({error})",
            where=path,
            remedy="let `truth` name the folder that launch/simulate.py wrote, or leave it out",
        ) from None
