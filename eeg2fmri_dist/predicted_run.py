"""A predicted BOLD run on disk: the NIfTI file, its sidecar, what it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.evaluate import PredictConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files import write_json
from eeg2fmri_dist.nifti_run import write_run
from eeg2fmri_dist.training.manifest import weights_sha256

if TYPE_CHECKING:
    from eeg2fmri_dist.export import ModelCard


def describe_inputs(config: PredictConfig, weights: Path) -> dict[str, Any]:
    """Say what a prediction is made from; JSON values.

    Parameters
    ----------
    config : PredictConfig
        Names the EEG.
    weights : Path
        Checked weights of the model.

    Raises
    ------
    DataError
        If the EEG is not there.
    """
    try:
        config.eeg.stat()
    except OSError:
        raise DataError(
            "no such EEG header",
            where=config.eeg,
            remedy="give a BrainVision .vhdr file as eeg=...",
        ) from None
    beside = sorted(path for path in config.eeg.parent.glob(f"{config.eeg.stem}.*"))
    eeg = {
        "file": str(config.eeg),
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in beside],
        "marker": config.marker,
    }
    return {"Weights": weights_sha256(weights), "EEG": eeg}


def is_up_to_date(path: Path, made_from: dict[str, Any]) -> bool:
    """Tell whether a NIfTI file is there that was made from these inputs."""
    try:
        sidecar = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return path.exists() and sidecar.get("MadeFrom") == made_from


def write_predicted_run(
    path: Path, volumes: np.ndarray, card: ModelCard, provenance: dict[str, Any]
) -> None:
    """Write predicted volumes as a 4-D NIfTI in template space, with a JSON sidecar.

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``; both files appear whole or not at all.
    volumes : ndarray of shape (volume, x, y, z)
        Of `predict.predict_bold`.
    card : ModelCard
        Gives affine and TR.
    provenance : dict
        Goes into the sidecar; ``MadeFrom`` is what `is_up_to_date` compares.
    """
    write_run(path, volumes, np.array(card.affine), card.tr_s)
    write_json(sidecar_path(path), _describe(card) | provenance)


def sidecar_path(path: Path) -> Path:
    """Return the JSON that lies beside a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _describe(card: ModelCard) -> dict[str, Any]:
    return {
        "Description": "BOLD predicted from EEG alone",
        "RepetitionTime": card.tr_s,
        "SpatialReference": card.space,
        "DroppedVolumes": card.preprocessing.get("drop_volumes"),
        "Model": card.model["name"],
        "Recipe": card.recipe,
        "ReferenceImage": "mean image of the training subjects",
        "TrainingSubjects": card.subjects["train"],
    }
