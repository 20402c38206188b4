"""A BIDS data set on disk: finding its recordings of one task.

EEG (``sub-*/[ses-*/]eeg/*_eeg.vhdr``, ``.set``, ``.edf`` or ``.bdf``) and BOLD
(``sub-*/[ses-*/]func/*_bold.nii[.gz]``) of the same subject, session, task and run make a
recording. File names are parsed here because mne-bids 0.20 passes over names with entities that MRI
alone has (``dir-``, ``echo-``).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.recordings import Recording

EEG_ENDINGS = ("_eeg.vhdr", "_eeg.set", "_eeg.edf", "_eeg.bdf")
BOLD_ENDINGS = ("_bold.nii.gz", "_bold.nii")
T1_ENDINGS = ("_T1w.nii.gz", "_T1w.nii")


class RunKey(NamedTuple):
    """What EEG and BOLD of a recording have in common; the run without leading zeros."""

    subject: str
    session: str
    run: str


def find_recordings(source: SourceConfig) -> list[Recording]:
    """All recordings of one task of a BIDS folder; derivatives are not looked at.

    The repetition time is `source.tr_s`, else ``RepetitionTime`` of the nearest sidecar
    (inheritance principle of BIDS 1.10), else None: then the NIfTI header decides. The anatomy is
    the first T1w image of the session, else of the subject, if there is one.

    Parameters
    ----------
    source : SourceConfig
        Folder, task, subjects (labels without ``sub-``) and repetition time.

    Returns
    -------
    list of Recording
        Sorted by subject, session and run; empty if the folder holds no subjects at all.

    Raises
    ------
    DataError
        If a recording lacks its EEG or its BOLD run or has several, if the task or a subject that
        was asked for is not there, or if a sidecar is damaged.
    """
    subjects = _wanted_subjects(source)
    if not subjects:
        return []
    headers = _files(source.path, subjects, "eeg", EEG_ENDINGS)
    runs = _files(source.path, subjects, "func", BOLD_ENDINGS)
    eeg, bold = _by_key(source, headers), _by_key(source, runs)
    if not eeg and not bold:
        raise _no_such_task(source, headers + runs)
    _check_all_there(source, {key.subject for key in [*eeg, *bold]})
    _check_pairs(source, eeg, bold)
    return [_recording(source, key, eeg[key], bold[key]) for key in sorted(bold)]


def _wanted_subjects(source: SourceConfig) -> list[str]:
    folders = [path for path in source.path.glob("sub-*") if path.is_dir()]
    present = sorted(folder.name.removeprefix("sub-") for folder in folders)
    absent = sorted(set(source.subjects or ()) - set(present))
    if present and absent:
        raise DataError(
            f"no subject {', '.join(absent)}; there are {', '.join(present)}",
            where=source.path,
            remedy="correct source.subjects in the config (labels without sub-)",
        )
    return sorted(set(source.subjects or present)) if present else []


def _files(
    root: Path, subjects: Iterable[str], datatype: str, endings: tuple[str, ...]
) -> list[Path]:
    """Files of a data type with or without a session folder, sorted."""
    found = (
        path
        for subject in subjects
        for place in (datatype, f"ses-*/{datatype}")
        for path in (root / f"sub-{subject}").glob(f"{place}/sub-*")
    )
    return sorted(path for path in found if path.name.endswith(endings))


def _entities(path: Path) -> dict[str, str]:
    """Entities of a file name, such as {"sub": "01", "task": "rest"}."""
    *pairs, _suffix = path.name.split(".", 1)[0].split("_")
    return dict(pair.split("-", 1) for pair in pairs if "-" in pair)


def _by_key(source: SourceConfig, paths: Iterable[Path]) -> dict[RunKey, Path]:
    """Files of the task by what they share with their other half."""
    found: dict[RunKey, Path] = {}
    for path in paths:
        entities = _entities(path)
        if entities.get("task") != source.task:
            continue
        run = entities.get("run", "")
        key = RunKey(
            entities["sub"], entities.get("ses", ""), str(int(run)) if run.isdecimal() else run
        )
        if key in found:
            raise DataError(
                f"two files of one recording: {found[key].name} and {path.name}",
                where=path.parent,
                remedy="keep one of them, or tell them apart by run-",
            )
        found[key] = path
    return found


def _no_such_task(source: SourceConfig, paths: Iterable[Path]) -> DataError:
    tasks = sorted({_entities(path).get("task", "") for path in paths} - {""})
    return DataError(
        f"no EEG and no BOLD run of task {source.task!r}; tasks that are there: "
        + (", ".join(tasks) or "none"),
        where=source.path,
        remedy="correct source.task in the config",
    )


def _check_all_there(source: SourceConfig, subjects: set[str]) -> None:
    if lacking := sorted(set(source.subjects or ()) - subjects):
        raise DataError(
            f"neither EEG nor BOLD of task {source.task!r} of subject {', '.join(lacking)}",
            where=source.path,
            remedy="correct source.subjects or source.task in the config",
        )


def _check_pairs(source: SourceConfig, eeg: dict[RunKey, Path], bold: dict[RunKey, Path]) -> None:
    """Refuse recordings that lack a half; all of them are named at once."""
    missing = [
        f"{path.name} has no {what}: {_expected(path, datatype, ending)} is missing"
        for halves, others, what, datatype, ending in (
            (bold, eeg, "EEG", "eeg", EEG_ENDINGS[0]),
            (eeg, bold, "BOLD run", "func", BOLD_ENDINGS[0]),
        )
        for key, path in sorted(halves.items())
        if key not in others
    ]
    if missing:
        raise DataError(
            "\n  ".join(missing),
            where=source.path,
            remedy="put the file there (EEG as .vhdr, .set, .edf or .bdf), or leave the subject "
            "out with source.subjects",
        )


def _expected(half: Path, datatype: str, ending: str) -> str:
    """Where the other half of a recording belongs, relative to the data set."""
    entities = _entities(half)
    parts = [
        f"{name}-{entities[name]}" for name in ("sub", "ses", "task", "run") if name in entities
    ]
    folders = [part for part in parts if part.startswith(("sub-", "ses-"))]
    return "/".join([*folders, datatype, "_".join(parts) + ending])


def _recording(source: SourceConfig, key: RunKey, eeg_path: Path, bold_path: Path) -> Recording:
    for path in (eeg_path, bold_path):
        if not path.is_file():
            raise DataError(
                "the file's content is not here (a link that leads nowhere)",
                where=path,
                remedy="fetch it, with `datalad get` in a DataLad data set",
            )
    return Recording(
        subject=key.subject,
        session=key.session,
        run=_entities(bold_path).get("run", ""),
        eeg_path=eeg_path,
        bold_path=bold_path,
        t1_path=_anatomy(source.path, key),
        tr_s=source.tr_s or _sidecar_tr_s(bold_path, source.path),
        slice_times_s=_sidecar_slice_times_s(bold_path, source.path),
    )


def _anatomy(root: Path, key: RunKey) -> Path | None:
    images = _files(root, [key.subject], "anat", T1_ENDINGS)
    of_session = [path for path in images if _entities(path).get("ses", "") == key.session]
    return next(iter(of_session + images), None)


def _sidecar_tr_s(bold_path: Path, root: Path) -> float | None:
    for sidecar in _sidecars(bold_path, root):
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
    for sidecar in _sidecars(bold_path, root):
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


def _sidecars(bold_path: Path, root: Path) -> Iterator[Path]:
    """JSON files that apply to a BOLD run, the one that overrides the others first."""
    entities = _entities(bold_path).items()
    for folder in bold_path.parents:
        applicable = [
            path
            for path in folder.glob("*bold.json")
            if path.stem.split("_")[-1] == "bold" and _entities(path).items() <= entities
        ]
        yield from sorted(applicable, key=lambda path: len(_entities(path)), reverse=True)
        if folder == root:
            return


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
