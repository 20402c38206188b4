"""A BIDS data set on disk: finding its recordings.

EEG (``sub-*/[ses-*/]eeg/*_eeg.vhdr``, ``.set``, ``.edf`` or ``.bdf``, or what `source.eeg_files`
names, such as the corrected EEG in ``derivatives/``) and BOLD
(``sub-*/[ses-*/]func/*_bold.nii[.gz]``) of the same subject, session, task and run make a
recording. File names are parsed here because mne-bids 0.20 passes over names with entities that MRI
alone has (``dir-``, ``echo-``).
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.layouts.bids_names import applicable_files, entities_of
from preprocessing.recordings import Recording

EEG_ENDINGS = ("_eeg.vhdr", "_eeg.set", "_eeg.edf", "_eeg.bdf")
BOLD_ENDINGS = ("_bold.nii.gz", "_bold.nii")
T1_ENDINGS = ("_T1w.nii.gz", "_T1w.nii")


class RunKey(NamedTuple):
    """What EEG and BOLD of a recording have in common; the run without leading zeros."""

    subject: str
    session: str
    task: str
    run: str


def find_recordings(source: SourceConfig) -> list[Recording]:
    """All recordings of a BIDS folder; of derivatives, only EEG where the config names it.

    The repetition time is `source.tr_s`, else ``RepetitionTime`` of the nearest sidecar
    (inheritance principle of BIDS 1.10), else None: then the NIfTI header decides. The anatomy is
    the first T1w image of the session, else of the subject, if there is one.

    Parameters
    ----------
    source : SourceConfig
        Folder, pattern of the EEG and repetition time; the filters are applied by others.

    Returns
    -------
    list of Recording
        Sorted by subject, session, task and run, those included that lack a half, have several
        files for one, or have a damaged sidecar: their `problem` or their paths say so.
    """
    eeg = _by_key(_eeg_files(source))
    bold = _by_key(_files(source.path, "func", BOLD_ENDINGS))
    return [_recording(source, key, eeg, bold) for key in sorted({*eeg, *bold})]


def _eeg_files(source: SourceConfig) -> list[Path]:
    """EEG of all subjects, the raw one or that of the configured pattern."""
    if source.eeg_files is None:
        return _files(source.path, "eeg", EEG_ENDINGS)
    found = source.path.glob(source.eeg_files)
    return sorted(path for path in found if "sub" in entities_of(path))


def _files(root: Path, datatype: str, endings: tuple[str, ...], subject: str = "*") -> list[Path]:
    """Files of a data type with or without a session folder, sorted."""
    found = (
        path
        for folder in root.glob(f"sub-{subject}")
        if folder.is_dir()
        for place in (datatype, f"ses-*/{datatype}")
        for path in folder.glob(f"{place}/sub-*")
    )
    return sorted(path for path in found if path.name.endswith(endings))


def _by_key(paths: Iterable[Path]) -> dict[RunKey, list[Path]]:
    """Files by what they share with their other half."""
    found: dict[RunKey, list[Path]] = {}
    for path in paths:
        entities = entities_of(path)
        run = entities.get("run", "")
        key = RunKey(
            entities["sub"],
            entities.get("ses", ""),
            entities.get("task", ""),
            str(int(run)) if run.isdecimal() else run,
        )
        found.setdefault(key, []).append(path)
    return found


def _recording(
    source: SourceConfig,
    key: RunKey,
    eeg: Mapping[RunKey, Sequence[Path]],
    bold: Mapping[RunKey, Sequence[Path]],
) -> Recording:
    """The recording of a key that EEG or BOLD has."""
    headers, runs = eeg.get(key, ()), bold.get(key, ())
    expected = source.path / source.eeg_files if source.eeg_files else None
    eeg_path = (
        headers[0]
        if headers
        else expected or _expected(source.path, runs[0], "eeg", EEG_ENDINGS[0])
    )
    bold_path = runs[0] if runs else _expected(source.path, headers[0], "func", BOLD_ENDINGS[0])
    recording = Recording(
        subject=key.subject,
        session=key.session,
        task=key.task,
        run=entities_of(bold_path).get("run", ""),
        eeg_path=eeg_path,
        bold_path=bold_path,
        t1_path=_anatomy(source.path, key),
        slice_times_s=_sidecar_slice_times_s(bold_path, source.path),
        problem=next((_twice(paths) for paths in (headers, runs) if len(paths) > 1), ""),
    )
    try:
        return replace(recording, tr_s=source.tr_s or _sidecar_tr_s(bold_path, source.path))
    except DataError as error:
        return replace(recording, problem=recording.problem or str(error))


def _twice(paths: Sequence[Path]) -> str:
    names = " and ".join(path.name for path in paths)
    return f"two files of one recording: {names}; keep one of them, or tell them apart by run-"


def _expected(root: Path, half: Path, datatype: str, ending: str) -> Path:
    """Where the other half of a recording belongs."""
    entities = entities_of(half)
    parts = [
        f"{name}-{entities[name]}" for name in ("sub", "ses", "task", "run") if name in entities
    ]
    folders = [part for part in parts if part.startswith(("sub-", "ses-"))]
    return root.joinpath(*folders, datatype, "_".join(parts) + ending)


def _anatomy(root: Path, key: RunKey) -> Path | None:
    images = _files(root, "anat", T1_ENDINGS, glob.escape(key.subject))
    of_session = [path for path in images if entities_of(path).get("ses", "") == key.session]
    return next(iter(of_session + images), None)


def _sidecar_tr_s(bold_path: Path, root: Path) -> float | None:
    for sidecar in applicable_files(bold_path, "bold.json", root):
        value = _read_sidecar(sidecar).get("RepetitionTime")
        if value is None:
            continue
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise DataError(
                f"RepetitionTime is {value!r}, not a positive number of seconds",
                where=sidecar,
                remedy="correct the sidecar, or set source.tr_s",
            )
        return float(value)
    return None


def _sidecar_slice_times_s(bold_path: Path, root: Path) -> tuple[float, ...] | None:
    """Times of the slices along the last axis; None where the sidecar says nothing usable."""
    content: dict[str, object] = {}
    for sidecar in applicable_files(bold_path, "bold.json", root):
        # A damaged one is refused where its repetition time is needed.
        with contextlib.suppress(DataError):
            content = _read_sidecar(sidecar) | content
    times, direction = content.get("SliceTiming"), content.get("SliceEncodingDirection", "k")
    if direction not in ("k", "k-") or not isinstance(times, list) or not times:
        return None
    if not all(isinstance(time, int | float) and 0 <= time < math.inf for time in times):
        return None
    # "k-": the first time belongs to the last slice.
    return tuple(float(time) for time in (times if direction == "k" else times[::-1]))


def _read_sidecar(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the sidecar cannot be read ({error})", where=path, remedy="correct it, or remove it"
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            "the sidecar is not a JSON object", where=path, remedy="correct it, or remove it"
        )
    return content
