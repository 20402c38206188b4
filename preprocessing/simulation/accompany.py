"""A BIDS folder of a real BOLD run, accompanied by simulated EEG.

``python -m preprocessing.simulation.accompany REALDATA OUTPUT``. EEG that was recorded in the
scanner is not freely available in raw form; this folder takes real BOLD through the whole suite
all the same. The EEG knows nothing of the BOLD: no model can honestly predict one from the other.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import ConfigError, DataError, SuiteError
from eeg2fmri_dist.files.atomic import replacing, write_json, write_text
from preprocessing.layouts.noddi import CHANNELS

if TYPE_CHECKING:
    import nibabel as nib

logger = logging.getLogger(__name__)

TASK = "oneback"
TR_S = 2.0  # as published (Sengupta et al. 2016, Scientific Data 3:160093); the header says 1.79 s
SFREQ_HZ = 5000
LEAD_S = 6.0  # of EEG before the first volume
BOLD_FILES = ("studyforrest_bold/sf_bold.nii.gz", "studyforrest_bold/LICENSE")
T1_FILE = "studyforrest_t1/sf_t1.nii.gz"

README = """\
Real BOLD, simulated EEG
========================

BOLD and T1 are real: one run of the visual localizer and the anatomy of one subject, from the
studyforrest data set (Sengupta et al. 2016, Scientific Data 3:160093; PDDL 1.0, see LICENSE).
The {n_subjects} "subjects" are consecutive pieces of {n_volumes} volumes of that one run. They
exercise software and say nothing about differences between subjects.

The EEG is simulated, with no relation to the BOLD: whatever a model predicts from it does not
come from the EEG.

RepetitionTime in the sidecar is the published 2.0 s; the NIfTI headers keep the 1.79 s that they
came with, which is wrong.
"""


def build_bids_folder(
    realdata: Path, output: Path, *, n_subjects: int = 6, n_volumes: int | None = None
) -> None:
    """Write a BIDS folder of a real BOLD run and T1 with EEG simulated for that run.

    The run is cut into consecutive pieces, presented as subjects. The folder is whole or not there.

    Parameters
    ----------
    realdata : Path
        Folder that holds ``studyforrest_bold/sf_bold.nii.gz`` and ``studyforrest_t1/sf_t1.nii.gz``.
    output : Path
        Folder to make.
    n_subjects : int
        Pieces of the run.
    n_volumes : int or None
        Volumes of each piece; None = as many as there are.

    Raises
    ------
    DataError
        If the real data is not there or `output` is.
    ConfigError
        If the run is too short for the pieces.
    """
    if output.exists():
        raise DataError(
            "is already there", where=output, remedy="remove it, or name another folder"
        )
    run = _load_run(realdata)
    n_volumes = _check_pieces(run.shape[3], n_subjects, n_volumes)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _describe(part, realdata, n_subjects, n_volumes)
    for index in range(n_subjects):
        label = f"{index + 1:02d}"
        _write_subject(part / f"sub-{label}", label, realdata, run, index * n_volumes, n_volumes)
        logger.info("sub-%s written (%d of %d)", label, index + 1, n_subjects)
    part.rename(output)
    logger.info("%d volumes of real BOLD each, with simulated EEG: %s", n_volumes, output)


def _load_run(realdata: Path) -> nib.Nifti1Image:
    """Real BOLD run with its integers as they are stored."""
    import nibabel as nib

    for name in (*BOLD_FILES, T1_FILE):
        if not (realdata / name).is_file():
            raise DataError(
                "is missing", where=realdata / name, remedy="name the folder of the real recordings"
            )
    run = nib.Nifti1Image.from_filename(realdata / BOLD_FILES[0])
    assert isinstance(run.dataobj, nib.arrayproxy.ArrayProxy), "it lies in a file"
    stored = nib.Nifti1Image(run.dataobj.get_unscaled(), run.affine, run.header)
    stored.header.set_slope_inter(run.dataobj.slope, run.dataobj.inter)
    return stored


def _check_pieces(available: int, n_subjects: int, n_volumes: int | None) -> int:
    length = n_volumes or available // max(n_subjects, 1)
    if n_subjects < 1 or length < 1 or n_subjects * length > available:
        raise ConfigError(
            f"{n_subjects} pieces of {length} volumes cannot be cut from a run of {available}",
            where="--subjects, --volumes",
            remedy="ask for fewer or shorter pieces",
        )
    return length


def _describe(folder: Path, realdata: Path, n_subjects: int, n_volumes: int) -> None:
    """Write what applies to all subjects: description, license, sidecars."""
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "Pieces of a studyforrest BOLD run (real) with simulated EEG",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "PDDL",
            "HowToAcknowledge": "Sengupta et al. 2016, Scientific Data 3:160093 (BOLD and T1)",
        },
    )
    write_text(folder / "README", README.format(n_subjects=n_subjects, n_volumes=n_volumes))
    _copy(realdata / BOLD_FILES[1], folder / "LICENSE")
    write_json(folder / f"task-{TASK}_bold.json", {"TaskName": TASK, "RepetitionTime": TR_S})
    write_json(
        folder / f"task-{TASK}_eeg.json",
        {
            "TaskName": TASK,
            "TaskDescription": "simulated EEG without relation to the BOLD run",
            "SamplingFrequency": SFREQ_HZ,
            "EEGReference": "FCz",
            "PowerLineFrequency": 50,
            "EEGChannelCount": 63,
            "ECGChannelCount": 1,
            "SoftwareFilters": "n/a",
        },
    )


def _write_subject(
    folder: Path, label: str, realdata: Path, run: nib.Nifti1Image, first: int, n_volumes: int
) -> None:
    from preprocessing.simulation.scanner.eeg_measurement import write_raw_recording

    stem = f"sub-{label}_task-{TASK}"
    _copy(realdata / T1_FILE, folder / "anat" / f"sub-{label}_T1w.nii.gz")
    _write_piece(folder / "func" / f"{stem}_bold.nii.gz", run, first, n_volumes)
    onsets_s = LEAD_S + TR_S * np.arange(n_volumes)
    header = folder / "eeg" / f"{stem}_eeg.vhdr"
    write_raw_recording(header, onsets_s, TR_S, subject=label, sfreq_hz=SFREQ_HZ)
    kinds = (f"{name}\t{'ECG' if name == 'ECG' else 'EEG'}\tuV\n" for name in CHANNELS)
    write_text(folder / "eeg" / f"{stem}_channels.tsv", "name\ttype\tunits\n" + "".join(kinds))


def _write_piece(path: Path, run: nib.Nifti1Image, first: int, n_volumes: int) -> None:
    """Write consecutive volumes with the header, integers and scaling of the run."""
    piece = run.slicer[..., first : first + n_volumes]
    piece.header.set_slope_inter(*run.header.get_slope_inter())
    with replacing(path) as temporary, gzip.open(temporary, "wb", compresslevel=1) as packed:
        packed.write(piece.to_bytes())


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.simulation.accompany", description=__doc__
    )
    parser.add_argument("realdata", type=Path, help="folder of the real recordings")
    parser.add_argument("output", type=Path, help="BIDS folder to make")
    parser.add_argument("--subjects", type=int, default=6, help="pieces of the run (default: 6)")
    parser.add_argument(
        "--volumes", type=int, help="volumes of each piece (default: all there are)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build_bids_folder(
            options.realdata,
            options.output,
            n_subjects=options.subjects,
            n_volumes=options.volumes,
        )
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
