"""A predicted BOLD run on disk: NIfTI, sidecars, regional time series, what it was made from.

Names and folders follow BIDS derivatives (BIDS 1.10, derivatives of imaging data).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import eeg2fmri_dist
from eeg2fmri_dist.errors import CheckpointError, ConfigError
from eeg2fmri_dist.files.atomic import write_json, write_text
from eeg2fmri_dist.files.made_from import read_record, why_stale
from eeg2fmri_dist.files.nifti import write_run_in_blocks
from eeg2fmri_dist.scores.networks import Regions, regional_means

if TYPE_CHECKING:
    from eeg2fmri_dist.inference.model_file import ModelCard

DISCLAIMER = (
    "These volumes were predicted from EEG by a model. Nothing here was measured by a scanner. "
    "For research; not a medical device, not for diagnosis or treatment."
)
_FRAMES = 30
_BIDS_VERSION = "1.10.0"
_DATASET = "dataset_description.json"
_NAME = "eeg2fmri_dist predictions"


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a predicted run lie.

    Attributes
    ----------
    bold, sidecar : Path
        NIfTI and its JSON.
    series, series_sidecar : Path
        Regional time series (TSV) and their JSON.
    page : Path
        HTML.
    """

    bold: Path
    sidecar: Path
    series: Path
    series_sidecar: Path
    page: Path

    @classmethod
    def in_dataset(
        cls, folder: Path, entities: Mapping[str, str], space: str, segmentation: str
    ) -> RunFiles:
        """Name the files of a recording in a BIDS derivative data set."""
        key = "_".join(f"{name}-{value}" for name, value in entities.items())
        levels = [f"{name}-{entities[name]}" for name in ("sub", "ses") if name in entities]
        func = folder.joinpath(*levels, "func")
        bold = f"{key}_space-{space}_desc-predicted_bold"
        series = f"{key}_space-{space}_seg-{segmentation}_stat-mean_desc-predicted_timeseries"
        return cls(
            bold=func / f"{bold}.nii.gz",
            sidecar=func / f"{bold}.json",
            series=func / f"{series}.tsv",
            series_sidecar=func / f"{series}.json",
            page=folder / f"{key}_desc-predicted.html",
        )

    @classmethod
    def beside(cls, bold: Path) -> RunFiles:
        """Name the files that go with a NIfTI file."""
        stem = bold.name.removesuffix(".gz").removesuffix(".nii")
        return cls(
            bold=bold,
            sidecar=bold.with_name(f"{stem}.json"),
            series=bold.with_name(f"{stem}_timeseries.tsv"),
            series_sidecar=bold.with_name(f"{stem}_timeseries.json"),
            page=bold.with_name(f"{stem}.html"),
        )

    def why_stale(self, made_from: Mapping[str, Any]) -> str | None:
        """Return why the files must be made (again); None = they are there, of these inputs."""
        missing = [path for path in (self.bold, self.series, self.page) if not path.is_file()]
        if missing:
            return f"there is no {missing[0].name} yet"
        return why_stale(read_record(self.sidecar).get("MadeFrom"), made_from)


@dataclass(frozen=True)
class Overview:
    """What is kept of a run whose volumes were never in memory at once.

    Attributes
    ----------
    series : ndarray of shape (volume, region)
        Regional means.
    mean : ndarray of shape (x, y, z)
        Mean over time.
    frames : ndarray of shape (frame, x, y, z)
        Up to 30 volumes, spread evenly.
    frame_volumes : ndarray of shape (frame,)
        Which volumes they are, counted from 0.
    """

    series: np.ndarray
    mean: np.ndarray
    frames: np.ndarray
    frame_volumes: np.ndarray


def write_dataset(folder: Path) -> None:
    """Make a folder a BIDS derivative data set of this suite.

    Raises
    ------
    ConfigError
        If it holds a data set of another kind.
    """
    description = {
        "Name": _NAME,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "eeg2fmri_dist",
                "Version": eeg2fmri_dist.__version__,
                "Description": DISCLAIMER,
            }
        ],
    }
    check_dataset(folder)
    write_json(folder / _DATASET, description)
    write_text(folder / "README", f"BOLD runs predicted from EEG.\n\n{DISCLAIMER}\n")
    # Regional time series are common (fMRIPrep, XCP-D) and not in the standard yet.
    write_text(folder / ".bidsignore", "*.html\n*_timeseries.tsv\n*_timeseries.json\n")


def check_dataset(folder: Path) -> None:
    """Refuse a folder that holds another data set (see `write_dataset`)."""
    path = folder / _DATASET
    if not path.exists():
        return
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("Name")
    except (OSError, ValueError, AttributeError):
        name = None
    if name != _NAME:
        raise ConfigError(
            f"the folder holds another data set ({name!r}), which predictions must not mix with",
            where=path,
            remedy="give another output=...",
        )


def write_predicted_run(
    files: RunFiles,
    blocks: Iterable[np.ndarray],
    n_volumes: int,
    card: ModelCard,
    regions: Regions,
    about: Mapping[str, Any],
) -> Overview:
    """Write predicted volumes as they come, with sidecars and regional time series.

    Parameters
    ----------
    files : RunFiles
        Each appears whole or not at all; the sidecar of the NIfTI is not written, because it says
        that all is there (`write_sidecar`).
    blocks : iterable of ndarray of shape (some volumes, x, y, z)
        In order of time.
    n_volumes : int
        Of all blocks together.
    card : ModelCard
        Gives affine, space and TR.
    regions : Regions
        On the grid of the card.
    about : mapping
        For the sidecar of the time series.

    Returns
    -------
    Overview
    """
    files.sidecar.unlink(missing_ok=True)  # it would vouch for files that are being replaced
    watch = _Watch(n_volumes, regions)
    affine, grid = np.array(card.affine), regions.labels.shape
    write_run_in_blocks(files.bold, watch.passing(blocks), (n_volumes, *grid), affine, card.tr_s)
    overview = watch.overview()
    write_text(files.series, _table(regions.names, overview.series))
    write_json(
        files.series_sidecar,
        {
            "Description": "mean of the predicted BOLD over the voxels of each region",
            "RepetitionTime": card.tr_s,
            "SamplingFrequency": 1 / card.tr_s,
            "Atlas": regions.atlas,
            **about,
        },
    )
    return overview


def write_sidecar(files: RunFiles, card: ModelCard, about: Mapping[str, Any]) -> None:
    """Write the JSON of the NIfTI, last: from now on the run counts as done.

    Parameters
    ----------
    files : RunFiles
    card : ModelCard
        Of the model that predicted it.
    about : mapping
        ``MadeFrom`` is what `RunFiles.are_made_from` compares.
    """
    described = {
        "Description": f"BOLD predicted from EEG alone. {DISCLAIMER}",
        "RepetitionTime": card.tr_s,
        "SpatialReference": card.space,
        "SkullStripped": True,
        "Units": "arbitrary",
        "Model": card.model["name"],
        "Recipe": card.recipe,
        "ReferenceImage": "mean image of the training subjects",
        "TrainingSubjects": card.subjects["train"],
    }
    write_json(files.sidecar, described | dict(about))


class _Watch:
    """Keeps of passing volumes what the time series and the page need."""

    def __init__(self, n_volumes: int, regions: Regions):
        self._regions = regions
        n_frames = min(_FRAMES, n_volumes)
        self._wanted = np.unique(np.linspace(0, n_volumes - 1, n_frames).round().astype(int))
        self._series: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._total = np.zeros(regions.labels.shape)
        self._count = 0

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hand blocks on while looking at them."""
        for block in blocks:
            stop = self._count + len(block)
            inside = self._wanted[(self._wanted >= self._count) & (self._wanted < stop)]
            self._frames += [block[at - self._count].copy() for at in inside]
            if not np.isfinite(block).all():
                raise CheckpointError(
                    f"the model predicts values that are not finite from volume {self._count} on",
                    remedy="give a model whose training has not diverged",
                )
            self._series.append(regional_means(block, self._regions.labels, len(self._regions)))
            self._total += block.sum(axis=0, dtype=np.float64)
            self._count = stop
            yield block

    def overview(self) -> Overview:
        """What was kept of all blocks."""
        return Overview(
            series=np.concatenate(self._series),
            mean=self._total / self._count,
            frames=np.stack(self._frames),
            frame_volumes=self._wanted,
        )


def _table(columns: Iterable[str], series: np.ndarray) -> str:
    lines = ["\t".join(columns)]
    lines += ["\t".join(f"{value:.7g}" for value in row) for row in series]
    return "\n".join(lines) + "\n"
