"""Which recordings of a source are used, which a person left out, and which cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eeg2fmri_dist.config.preprocess import Exclusion, SourceConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.layouts import bids, custom, noddi
from preprocessing.recordings import Recording

Layout = Callable[[SourceConfig], Iterable[Recording]]

_LAYOUTS: dict[str, Layout] = {
    "noddi": noddi.find_recordings,
    "bids": bids.find_recordings,
    "custom": custom.find_recordings,
}
_FILTERS = {"subject": "subjects", "session": "sessions", "task": "tasks", "run": "runs"}
_LEAVE_OUT = "leave them out with source.exclude, or set on_error=continue"


@dataclass(frozen=True)
class Dismissed:
    """A recording that is there and is not used.

    Attributes
    ----------
    recording : Recording
    reason : str
    """

    recording: Recording
    reason: str


@dataclass(frozen=True)
class Selection:
    """The recordings of a source, sorted out; each list sorted by key.

    Attributes
    ----------
    path : Path
        Folder that was looked at.
    selected : tuple of Recording
        To be preprocessed.
    excluded : tuple of Dismissed
        Left out by ``source.exclude``.
    refused : tuple of Dismissed
        Incomplete, or named so that they cannot be used.
    unselected : tuple of Dismissed
        That the filters do not let through.
    """

    path: Path
    selected: tuple[Recording, ...]
    excluded: tuple[Dismissed, ...] = ()
    refused: tuple[Dismissed, ...] = ()
    unselected: tuple[Dismissed, ...] = ()

    def whole(self) -> tuple[Recording, ...]:
        """Return the selected recordings if none was refused.

        Raises
        ------
        DataError
            If any was refused; all are named.
        """
        if self.refused:
            reasons = [f"{item.recording.key}: {item.reason}" for item in self.refused]
            raise DataError(
                "\n  ".join([f"{len(reasons)} recordings cannot be used", *reasons]),
                where=self.path,
                remedy=f"correct them, {_LEAVE_OUT}",
            )
        return self.selected


def select_recordings(source: SourceConfig) -> Selection:
    """Find the recordings of a source and sort them out.

    Labels are compared as numbers where both are: session 1 is also ``ses-001``.

    Parameters
    ----------
    source : SourceConfig
        Layout, folder, filters and exclusions.

    Returns
    -------
    Selection

    Raises
    ------
    DataError
        If the folder holds no recordings, if a filter or an exclusion fits none of them (what there
        is is named), if all are excluded, or if two have the same name.
    """
    found = sorted(_LAYOUTS[source.name](source), key=lambda recording: recording.key)
    if not found:
        raise DataError(
            f"no {source.name} recordings found",
            where=source.path,
            remedy="check source.path and source.name in the config",
        )
    _check_filters(found, source)
    reasons = _reasons(found, source)
    against = _filters_against(found, source)
    wanted = [recording for recording, why in zip(found, against, strict=True) if not why]
    left = [recording for recording in wanted if recording.key not in reasons]
    if not left:
        raise DataError(
            f"all {len(wanted)} recordings are excluded",
            where=source.path,
            remedy="correct source.exclude in the config",
        )
    _check_names(left, source)
    problems = {recording.key: _problem(recording, source.path) for recording in left}
    return Selection(
        source.path,
        selected=tuple(recording for recording in left if not problems[recording.key]),
        excluded=tuple(Dismissed(r, reasons[r.key]) for r in wanted if r.key in reasons),
        refused=tuple(Dismissed(r, problems[r.key]) for r in left if problems[r.key]),
        unselected=tuple(
            Dismissed(recording, why) for recording, why in zip(found, against, strict=True) if why
        ),
    )


def _plain(label: str) -> str:
    """A label without leading zeros if it is a number."""
    return str(int(label)) if label.isdecimal() else label


def _filters_against(found: Sequence[Recording], source: SourceConfig) -> list[str]:
    """For each recording, the first filter that does not let it through; empty if all do."""
    wanted = {
        entity: {_plain(label) for label in labels}
        for entity, name in _FILTERS.items()
        if (labels := getattr(source, name)) is not None
    }
    against = (
        (entity for entity in wanted if _plain(getattr(recording, entity)) not in wanted[entity])
        for recording in found
    )
    first = (next(entities, "") for entities in against)
    return [f"not one of source.{_FILTERS[entity]}" if entity else "" for entity in first]


def _check_filters(found: Sequence[Recording], source: SourceConfig) -> None:
    """Refuse labels that no recording has, then those that the other filters leave without one."""
    against = _filters_against(found, source)
    wanted = [recording for recording, why in zip(found, against, strict=True) if not why]
    for candidates, problem in ((found, _no_such), (wanted, _none_left)):
        for entity, name in _FILTERS.items():
            there = {_plain(getattr(recording, entity)) for recording in candidates}
            absent = [label for label in getattr(source, name) or () if _plain(label) not in there]
            if absent:
                raise DataError(
                    problem(entity, absent, found),
                    where=source.path,
                    remedy=f"correct source.{name} in the config",
                )


def _no_such(entity: str, absent: Sequence[str], found: Sequence[Recording]) -> str:
    present = sorted({getattr(recording, entity) for recording in found} - {""})
    there = f"there are {', '.join(present)}" if present else f"the data have no {entity} labels"
    return f"no {entity} {', '.join(absent)}; {there}"


def _none_left(entity: str, absent: Sequence[str], found: Sequence[Recording]) -> str:
    labels = {_plain(label) for label in absent}
    theirs = [recording.key for recording in found if _plain(getattr(recording, entity)) in labels]
    return (
        f"the other filters leave no recording of {entity} {', '.join(absent)}, which has "
        f"{', '.join(theirs)}"
    )


def _reasons(found: Sequence[Recording], source: SourceConfig) -> dict[str, str]:
    """Why recordings are excluded, by key."""
    reasons: dict[str, list[str]] = {}
    for number, exclusion in enumerate(source.exclude):
        keys = [recording.key for recording in found if _is_meant(recording, exclusion)]
        if not keys:
            raise DataError(
                f"source.exclude, entry {number + 1} ({exclusion.reason!r}) fits none of the "
                f"recordings; there are {', '.join(recording.key for recording in found)}",
                where=source.path,
                remedy="correct or remove the entry",
            )
        for key in keys:
            reasons.setdefault(key, []).append(" ".join(exclusion.reason.split()))
    return {key: "; ".join(theirs) for key, theirs in reasons.items()}


def _is_meant(recording: Recording, exclusion: Exclusion) -> bool:
    """Whether an exclusion fits a recording in all that it names."""
    named = {entity: getattr(exclusion, entity) for entity in _FILTERS}
    return all(
        _plain(getattr(recording, entity)) == _plain(label)
        for entity, label in named.items()
        if label is not None
    )


def _check_names(recordings: Sequence[Recording], source: SourceConfig) -> None:
    """Refuse names that stand for several recordings."""
    counts = Counter(recording.key for recording in recordings)
    if twice := sorted(key for key, count in counts.items() if count > 1):
        raise DataError(
            f"more than one recording is called {', '.join(twice)}",
            where=source.path,
            remedy="give them different sessions, tasks or runs, or select one of them",
        )


def _problem(recording: Recording, root: Path) -> str:
    """Why a recording cannot be used, as far as names and folders say."""
    if recording.problem:
        return recording.problem
    for label in (recording.subject, recording.session, recording.task, recording.run):
        # They become file names, job names and text in pages.
        allowed = all(character.isalnum() or character in "+-" for character in label)
        if not allowed or not recording.subject:
            return (
                f"{label!r} cannot be a subject, session, task or run: letters, digits, + and - can"
            )
    for what, path in (("EEG", recording.eeg_path), ("BOLD run", recording.bold_path)):
        if path.is_file():
            continue
        place = path.absolute()
        if place.is_relative_to(root.absolute()):
            place = place.relative_to(root.absolute())
        if path.is_symlink():
            return (
                f"the content of {place} is not here (a link that leads nowhere); fetch it, with "
                "`datalad get` in a DataLad data set"
            )
        return f"no {what}: {place} is missing"
    return ""
