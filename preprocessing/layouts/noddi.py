"""The NODDI data set on disk (OSF 94c5t): its file names, and finding its recordings.

``EEG1/<id>/{raw,export}/`` and ``EEG2/<id>/...`` (or both merged) hold BrainVision files,
``fMRI/<id>/`` the BOLD run and the defaced anatomy. Names follow one pattern with four exceptions;
`FILE_NAMES` is the only place that knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eeg2fmri_dist.config.preprocess import SourceConfig
from preprocessing.recordings import KnownTruth, Recording

EEG_FOLDERS = ("EEG", "EEG1", "EEG2")
BOLD_FOLDER = "fMRI"
TRUTH_FOLDER = "truth"  # simulated data sets alone have one
ANY_DATE = "[0-9]" * 8
FIRST_SUBJECT_OF_EEG2 = "43"

# fmt: off
CHANNELS = (
    "Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7",
    "P8", "Fz", "Cz", "Pz", "Oz", "FC1", "FC2", "CP1", "CP2", "FC5", "FC6", "CP5", "CP6", "TP9",
    "TP10", "POz", "ECG", "AF3", "AF4", "FC3", "FC4", "CP3", "CP4", "PO3", "PO4", "F5", "F6",
    "C5", "C6", "P5", "P6", "AF7", "AF8", "FT7", "FT8", "TP7", "TP8", "PO7", "PO8", "FT9",
    "FT10", "P9", "P10", "PO9", "PO10", "O9", "O10", "Fpz", "CPz",
)
# fmt: on


@dataclass(frozen=True)
class FileNames:
    """Names of one subject's files; the defaults are the pattern that most subjects follow.

    Attributes
    ----------
    date : str
        Date in the EEG file names (a glob pattern where it is not known).
    stem : str
        Name of the raw EEG without its suffix, from ``date`` and ``subject``.
    export : str
        What the exported EEG adds to the stem.
    bold, t1 : str
        Names of the BOLD run and of the anatomy.
    """

    date: str = ANY_DATE
    stem: str = "{date}{subject}0002"
    export: str = "_Pulse_Artifact_Correction_bin"
    bold: str = "3_nw_mepi_rest_with_cross.nii.gz"
    t1: str = "2_fl3D_t1_sag_fun_defaced.nii.gz"

    def eeg_stem(self, subject: str, version: str) -> str:
        """Return the name of the ``raw`` or ``export`` EEG without suffix."""
        stem = self.stem.format(date=self.date, subject=subject)
        return stem + self.export if version == "export" else stem


FILE_NAMES = {
    "32": FileNames("20130410", export="_Segmentation_bin"),
    "35": FileNames("20130424"),
    "36": FileNames("20130425"),
    "37": FileNames("20130426"),
    "38": FileNames("20130105"),  # day and month are swapped
    "39": FileNames("20130501"),
    "40": FileNames(
        "20130510",
        bold="05_nw_mepi_rest_with_cross.nii.gz",
        t1="04_fl3D_t1_sag_fun_defaced.nii.gz",
    ),
    "42": FileNames("20130523"),
    "43": FileNames("20130529"),
    "44": FileNames("20130605"),
    "45": FileNames("20130627"),
    "46": FileNames("20130703"),
    "47": FileNames("20130710"),
    "48": FileNames("20130717"),
    "49": FileNames("20130918"),
    "50": FileNames("20131003", stem="{date}_{subject}0002"),
}


def eeg_header(root: Path, subject: str, version: str) -> Path:
    """Return where a NODDI subject's ``raw`` or ``export`` BrainVision header belongs.

    Subjects outside the data set get the date 20140101.
    """
    names = FILE_NAMES.get(subject, FileNames("20140101"))
    folder = "EEG1" if subject < FIRST_SUBJECT_OF_EEG2 else "EEG2"
    return root / folder / subject / version / f"{names.eeg_stem(subject, version)}.vhdr"


def bold_run(root: Path, subject: str) -> Path:
    """Return where a NODDI subject's BOLD run belongs."""
    return root / BOLD_FOLDER / subject / FILE_NAMES.get(subject, FileNames()).bold


def anatomy(root: Path, subject: str) -> Path:
    """Return where a NODDI subject's defaced anatomy belongs."""
    return root / BOLD_FOLDER / subject / FILE_NAMES.get(subject, FileNames()).t1


def truth_file(root: Path, subject: str) -> Path:
    """Return where the truth of a simulated subject belongs."""
    return root / TRUTH_FOLDER / f"sub-{subject}.npz"


def find_recordings(source: SourceConfig) -> list[Recording]:
    """All recordings of a NODDI folder.

    Parameters
    ----------
    source : SourceConfig
        Folder, EEG version (raw or export), repetition time and origin; the filters are applied
        by others.

    Returns
    -------
    list of Recording
        Sorted by subject, those included that lack a half, at the path where it belongs, or have
        several; empty if the folder holds no subjects at all.
    """
    return [_recording(source, subject) for subject in sorted(_subjects_present(source.path))]


def _subjects_present(root: Path) -> set[str]:
    folders = [root / name for name in (*EEG_FOLDERS, BOLD_FOLDER)]
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    # Archives leave folders such as __MACOSX behind.
    return {entry.name for entry in entries if entry.is_dir() and entry.name.isalnum()}


def _recording(source: SourceConfig, subject: str) -> Recording:
    headers = _headers(source, subject)
    t1_path = anatomy(source.path, subject)
    return Recording(
        subject=subject,
        eeg_path=next(iter(headers), eeg_header(source.path, subject, source.eeg)),
        bold_path=bold_run(source.path, subject),
        t1_path=t1_path if t1_path.is_file() else None,
        tr_s=source.tr_s,
        problem=_too_many(source, headers),
        truth=_truth(source.path, subject) if source.origin == "simulated" else None,
    )


def _truth(root: Path, subject: str) -> KnownTruth:
    """What a simulated subject has beside its recording.

    Its ``export`` is the signal of the raw recording without scanner artifacts, not a correction.
    """
    export, truth = eeg_header(root, subject, "export"), truth_file(root, subject)
    return KnownTruth(
        clean_eeg_path=export if export.is_file() else None,
        head_map_path=truth if truth.is_file() else None,
    )


def _headers(source: SourceConfig, subject: str) -> list[Path]:
    names = replace(FILE_NAMES.get(subject, FileNames()), date=ANY_DATE)
    name = f"{names.eeg_stem(subject, source.eeg)}.vhdr"
    folders = [source.path / folder / subject / source.eeg for folder in EEG_FOLDERS]
    return sorted(header for folder in folders for header in folder.glob(name))


def _too_many(source: SourceConfig, headers: Sequence[Path]) -> str:
    """What is wrong with several EEG of one subject; empty for one or none."""
    if len(headers) < 2:
        return ""
    places = ", ".join(str(header.relative_to(source.path)) for header in headers)
    return f"more than one {source.eeg} EEG: {places}; keep one of them"
