"""EEG recordings without fMRI: finding them, and their features as a trained model takes them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eeg2fmri_dist.config.preprocess import EegConfig, GradientArtifactConfig, PulseArtifactConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg
from preprocessing.eeg.features import EegFeatures, features_of
from preprocessing.eeg.file_formats import SUFFIXES, files_beside, open_eeg
from preprocessing.eeg.montage import Match, match_channels, remount

logger = logging.getLogger(__name__)

FORMATS = (
    "BrainVision (.vhdr), EDF (.edf), BDF (.bdf), EEGLAB (.set), or a BIDS folder that holds them"
)
# Files that lie beside a header and are given in its place.
_HEADERS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".dat": ".vhdr", ".fdt": ".set"}
_ENTITIES = ("sub", "ses", "task", "acq", "run")
_REFERENCES = {
    "recorded": "as recorded; the model knows that of its training data alone",
    "average": "average of the model's channels",
}


@dataclass(frozen=True)
class EegFile:
    """A recording to predict from.

    Attributes
    ----------
    path : Path
        Header, or the file itself.
    entities : dict of str to str
        BIDS entities without their prefix, in order; ``sub`` and ``task`` are always there.
    """

    path: Path
    entities: dict[str, str]

    @property
    def key(self) -> str:
        """Name of the recording, such as ``sub-32_task-rest``."""
        return "_".join(f"{name}-{value}" for name, value in self.entities.items())

    def parts(self) -> list[Path]:
        """Files of the recording.

        Raises
        ------
        DataError
            If it is not there, or of a format that is not read.
        """
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            remedy = f"give {FORMATS}"
            if suffix in _HEADERS:
                remedy = f"give the {_HEADERS[suffix]} file beside it; {FORMATS} are read"
            raise DataError(
                f"{suffix or 'no suffix'}: not an EEG format that is read",
                where=self.path,
                remedy=remedy,
            )
        if not self.path.is_file():
            raise DataError("no such EEG recording", where=self.path, remedy=f"give {FORMATS}")
        beside = set(files_beside(self.path))
        if suffix == ".vhdr":
            beside |= {path for path in self.path.parent.glob(f"{self.path.stem}.*")}
        return sorted(beside | {self.path})


@dataclass(frozen=True)
class ModelEeg:
    """What a model gets of a recording, and what became of it on the way.

    Attributes
    ----------
    features : EegFeatures
        Channels in the model's order.
    match : Match
        How its channels were found.
    marked : bool
        True where volumes begin at markers; False where they were counted from the first sample.
    start_s : float
        When the first volume begins, from the first sample of the EEG.
    sfreq_hz, duration_s : float
        Of the recording.
    """

    features: EegFeatures
    match: Match
    marked: bool
    start_s: float
    sfreq_hz: float
    duration_s: float


def find_eeg(
    paths: Sequence[Path], task: str | None = None, subjects: Sequence[str] | None = None
) -> list[EegFile]:
    """List the recordings among files and BIDS folders.

    Parameters
    ----------
    paths : sequence of Path
        Files are taken as they are, whether they can be read or not; of folders
        ``sub-*/[ses-*/]eeg/*_eeg`` files.
    task : str or None
        In folders, this task alone; of files whose names do not tell it.
    subjects : sequence of str or None
        In folders, these subjects alone.

    Returns
    -------
    list of EegFile

    Raises
    ------
    DataError
        If a folder holds none, or two recordings would get the same name.
    """
    found = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path, task, subjects)
        else:
            found.append(EegFile(path, _entities(path, task)))
    by_key: dict[str, EegFile] = {}
    for file in found:
        other = by_key.setdefault(file.key, file)
        if other is not file:
            raise DataError(
                f"two recordings would be called {file.key}: {other.path} and {file.path}",
                remedy="predict them in two commands, or rename one of them",
            )
    return found


def model_eeg(
    path: Path,
    channels: Sequence[str],
    tr_s: float,
    settings: EegConfig,
    dummy_scans: int,
    marker: str | None,
    max_interpolated: float,
) -> ModelEeg:
    """Compute the features of a recording as a model was trained on them.

    Parameters
    ----------
    path : Path
        Header, or the file itself.
    channels : sequence of str
        Of the model, in its order.
    tr_s : float
        Repetition time of its training data in s.
    settings : EegConfig
        Those of its training data.
    dummy_scans : int
        First volumes that are left out where the recording comes from a scanner.
    marker : str or None
        Regular expression of the volume marker; None = volumes follow each other from the first
        sample on; ``auto`` = the marker of the training data where the recording has it, else
        None.
    max_interpolated : float
        Share of the model's channels that may be missing.

    Returns
    -------
    ModelEeg

    Raises
    ------
    DataError
        If the recording cannot be read or used; see `match_channels` and `eeg.eeg_features`.
    """
    eeg = open_eeg(path, settings.marker if marker == "auto" else marker)
    match = match_channels(eeg, channels, max_interpolated)
    if marker == "auto":
        marker = settings.marker if _has_marker(eeg, settings.marker) else None
    in_scanner = marker is not None or settings.marker is None
    if not in_scanner:
        settings, dummy_scans = _outside_scanner(settings), 0
    settings = settings.model_copy(update={"marker": marker})
    if match.renamed:
        logger.info("%s: channels taken by another spelling: %s", path, _pairs(match.renamed))
    if match.interpolated:
        logger.warning("%s: channels interpolated: %s", path, ", ".join(match.interpolated))
    features = features_of(remount(eeg, match), None, tr_s, settings, dummy_scans)
    return ModelEeg(
        features=features,
        match=match,
        marked=marker is not None,
        start_s=features.quality["scan_start_s"] + dummy_scans * tr_s,
        sfreq_hz=eeg.sfreq_hz,
        duration_s=eeg.duration_s,
    )


def describe_eeg(eeg: ModelEeg, settings: EegConfig) -> dict[str, str]:
    """Say what became of a recording on its way to the model.

    Parameters
    ----------
    eeg : ModelEeg
    settings : EegConfig
        Those of the model's training data.

    Returns
    -------
    dict of str to str
        Heading -> sentence.
    """
    match, features = eeg.match, eeg.features
    channels = [f"{len(match.found)} of the model's {len(match.wanted)} found by name"]
    if match.renamed:
        channels.append(f"taken by another spelling: {_pairs(match.renamed)}")
    if match.interpolated:
        channels.append(f"interpolated: {', '.join(match.interpolated)}")
    if match.unused:
        channels.append(f"not used: {', '.join(match.unused)}")
    low_hz, high_hz = settings.band_hz
    volumes = "begin at the recording's markers"
    if not eeg.marked:
        volumes = "follow each other from the first sample on (no markers)"
    return {
        "Recording": f"{eeg.duration_s / 60:.1f} min at {eeg.sfreq_hz:g} Hz",
        "Channels": "; ".join(channels),
        "Signal": f"{low_hz:g} to {high_hz:g} Hz, taken at {features.sfreq_hz:g} Hz",
        "Reference": _reference(settings),
        "Artifacts": _corrections(features),
        "Volumes": volumes,
    }


def _reference(settings: EegConfig) -> str:
    is_csd = settings.spatial_filter == "csd"
    return "none: surface Laplacian" if is_csd else _REFERENCES[settings.reference]


def _pairs(renamed: dict[str, str]) -> str:
    return ", ".join(f"{own} as {name}" for name, own in renamed.items())


def _corrections(features: EegFeatures) -> str:
    cleaning = features.cleaning
    done = []
    if cleaning.n_volumes:
        done.append(f"gradient artifact removed by {cleaning.n_volumes} volumes")
    if cleaning.n_heartbeats:
        done.append(f"pulse artifact removed by {cleaning.n_heartbeats} heartbeats")
    if cleaning.bad_channels:
        bad = (f"{name} ({why})" for name, why in cleaning.bad_channels.items())
        done.append(f"bad channels interpolated: {', '.join(bad)}")
    return "; ".join(done) or "none removed"


def _has_marker(eeg: ContinuousEeg, pattern: str | None) -> bool:
    return pattern is not None and any(re.search(pattern, m.description) for m in eeg.markers)


def _outside_scanner(settings: EegConfig) -> EegConfig:
    """Settings for EEG without scanner artifacts."""
    return settings.model_copy(
        update={
            "gradient_artifact": GradientArtifactConfig(remove=False),
            "pulse_artifact": PulseArtifactConfig(remove=False),
        }
    )


def _in_folder(folder: Path, task: str | None, subjects: Sequence[str] | None) -> list[EegFile]:
    recordings = [
        EegFile(path, _entities(path, None))
        for place in ("sub-*/eeg/*_eeg.*", "sub-*/ses-*/eeg/*_eeg.*")
        for path in sorted(folder.glob(place))
        if path.suffix.lower() in SUFFIXES
    ]
    chosen = [
        file
        for file in recordings
        if (task is None or file.entities["task"] == task)
        and (subjects is None or file.entities["sub"] in subjects)
    ]
    if not chosen:
        raise DataError(
            _why_none(recordings, task, subjects), where=folder, remedy=f"give {FORMATS}"
        )
    return chosen


def _why_none(
    recordings: Sequence[EegFile], task: str | None, subjects: Sequence[str] | None
) -> str:
    if not recordings:
        return "the folder holds no BIDS EEG (sub-*/[ses-*/]eeg/*_eeg.vhdr, .set, .edf or .bdf)"
    there = (sorted({file.entities[name] for file in recordings}) for name in ("task", "sub"))
    tasks, labels = map(", ".join, there)
    asked = [f"task {task}"] * (task is not None)
    asked += [f"subjects {', '.join(subjects)}"] if subjects is not None else []
    return f"no EEG of {' and '.join(asked)}; there are tasks {tasks}, subjects {labels}"


def _entities(path: Path, task: str | None) -> dict[str, str]:
    """BIDS entities of a file name; of any other name, a subject label made from it."""
    stem = path.name.removesuffix(path.suffix)
    told = dict(re.findall(r"(?:^|_)([a-z]+)-([a-zA-Z0-9+]+)(?=_|$)", stem))
    told.setdefault("sub", re.sub(r"[^a-zA-Z0-9]", "", stem) or "unnamed")
    told.setdefault("task", task or "unknown")
    return {name: told[name] for name in _ENTITIES if name in told}
