"""Which recordings train, which choose the model, which are only scored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.errors import ConfigError, DataError

PARTS = ("train", "validation", "test")
# Two recordings may well have equal headers, markers and tables of channels.
_TEXT_FILES = (".vhdr", ".vmrk", ".tsv", ".json")


@dataclass(frozen=True)
class Segment:
    """Consecutive samples of one recording: ``start <= sample < stop``, counted in the store."""

    recording: int
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """Segments of each part.

    Attributes
    ----------
    train, validation, test : tuple of Segment
        Disjoint.
    leaks : bool
        True where a subject is in more than one part.
    """

    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    test: tuple[Segment, ...]
    leaks: bool

    def part(self, name: str) -> tuple[Segment, ...]:
        """Return the segments of ``train``, ``validation`` or ``test``."""
        return getattr(self, name)


def make_split(recordings: Sequence, config: SplitConfig) -> Split:
    """Divide recordings into training, validation and test.

    Parameters
    ----------
    recordings : sequence of RecordingEntry
        With `subject`, `first_sample` and `n_samples`.
    config : SplitConfig
        Kind and fractions.

    Raises
    ------
    DataError
        If there are fewer subjects than the split needs.
    ConfigError
        If the subject to be left out is not in the store, or fewer subjects are for training than
        ``train_subjects``.

    Notes
    -----
    ``k_fold`` deals subjects out in turn, like cards: fold sizes differ by one at most, and every
    subject is left out in exactly one fold.
    """
    if config.name == "by_sample":
        return _by_sample(recordings, config.fractions)
    subjects = sorted({recording.subject for recording in recordings})
    if config.seed is not None:
        random.Random(config.seed).shuffle(subjects)
    if config.name == "leave_one_subject_out":
        parts = _leave_one_out(subjects, config)
    elif config.name == "k_fold":
        parts = _leave_fold_out(subjects, config)
    else:
        parts = _by_subject(subjects, config.fractions)
    parts[0] = _first(config.train_subjects, [name for name in subjects if name in parts[0]])
    train, validation, test = (
        tuple(
            Segment(index, entry.first_sample, entry.first_sample + entry.n_samples)
            for index, entry in enumerate(recordings)
            if entry.subject in part
        )
        for part in parts
    )
    split = Split(train, validation, test, leaks=False)
    require_no_leak(recordings, split)
    return split


def find_leaks(recordings: Sequence, split: Split) -> list[str]:
    """Name what training shares with validation or test: subjects, samples, source files.

    Parameters
    ----------
    recordings : sequence of RecordingEntry
        With `subject`, `key` and `sources` (whose hashes find a file under another name).
    split : Split
        Of these recordings.
    """
    leaks = []
    for part in ("validation", "test"):
        subjects = _subjects(recordings, split.train) & _subjects(recordings, split.part(part))
        leaks += [f"subject {name} is in train and in {part}" for name in sorted(subjects)]
        leaks += [
            f"samples {max(one.start, other.start)} to {min(one.stop, other.stop) - 1} are in "
            f"train and in {part}"
            for one in split.train
            for other in split.part(part)
            if max(one.start, other.start) < min(one.stop, other.stop)
        ]
        of_train = _files(recordings, split.train)
        leaks += [
            f"{path} of {key} ({part}) is the same file as {of_train[digest][0]} of "
            f"{of_train[digest][1]} (train)"
            for digest, (path, key) in _files(recordings, split.part(part)).items()
            if digest in of_train
        ]
    return leaks


def require_no_leak(recordings: Sequence, split: Split) -> None:
    """Refuse a split that leaks although it says that it does not.

    Raises
    ------
    DataError
        With what `find_leaks` found.
    """
    leaks = [] if split.leaks else find_leaks(recordings, split)
    if leaks:
        raise DataError(
            f"the split leaks: {'; '.join(leaks[:5])}",
            remedy="remove recordings that are there twice, or give one subject one subject id",
        )


def _subjects(recordings: Sequence, segments: tuple[Segment, ...]) -> set[str]:
    return {recordings[segment.recording].subject for segment in segments}


def _files(recordings: Sequence, segments: tuple[Segment, ...]) -> dict[str, tuple[str, str]]:
    """Map hash to path and recording of each source file."""
    return {
        source.sha256: (source.path, recordings[segment.recording].key)
        for segment in segments
        for source in recordings[segment.recording].sources
        if not source.path.endswith(_TEXT_FILES)
    }


def _first(count: int | None, subjects: list[str]) -> set[str]:
    if count is not None and count > len(subjects):
        raise ConfigError(
            f"split.train_subjects is {count}, but only {len(subjects)} subjects are for training "
            f"({', '.join(subjects)})",
            remedy="lower it, change split.fractions, or preprocess more subjects",
        )
    return set(subjects[:count])


def _by_subject(subjects: list[str], fractions: tuple[float, float, float]) -> list[set[str]]:
    _require(len(subjects) >= 3, subjects, needed=3)
    n_validation = max(1, round(len(subjects) * fractions[1]))
    n_test = max(1, round(len(subjects) * fractions[2]))
    n_train = len(subjects) - n_validation - n_test
    _require(n_train >= 1, subjects, needed=n_validation + n_test + 1)
    return [
        set(subjects[:n_train]),
        set(subjects[n_train : n_train + n_validation]),
        set(subjects[n_train + n_validation :]),
    ]


def _leave_one_out(subjects: list[str], config: SplitConfig) -> list[set[str]]:
    if config.test_subject not in subjects:
        raise ConfigError(
            f"split.test_subject {config.test_subject!r} is not in the store",
            remedy=f"choose one of {', '.join(subjects)}",
        )
    return _leave_out({config.test_subject}, subjects, config.fractions)


def _leave_fold_out(subjects: list[str], config: SplitConfig) -> list[set[str]]:
    assert config.folds is not None
    _require(len(subjects) >= config.folds, subjects, needed=config.folds)
    return _leave_out(set(subjects[config.fold :: config.folds]), subjects, config.fractions)


def _leave_out(
    test: set[str], subjects: list[str], fractions: tuple[float, float, float]
) -> list[set[str]]:
    """Divide those who are not left out by the fractions of training and validation."""
    others = [subject for subject in subjects if subject not in test]
    _require(len(others) >= 2, subjects, needed=len(test) + 2)
    train_share = fractions[0] / (fractions[0] + fractions[1])
    n_train = min(len(others) - 1, max(1, round(len(others) * train_share)))
    return [set(others[:n_train]), set(others[n_train:]), test]


def _by_sample(recordings: Sequence, fractions: tuple[float, float, float]) -> Split:
    parts: tuple[list[Segment], list[Segment], list[Segment]] = ([], [], [])
    for index, entry in enumerate(recordings):
        first, last = entry.first_sample, entry.first_sample + entry.n_samples
        cut_train = first + round(entry.n_samples * fractions[0])
        cut_validation = first + round(entry.n_samples * (fractions[0] + fractions[1]))
        edges = (first, cut_train, cut_validation, last)
        for part, start, stop in zip(parts, edges, edges[1:], strict=False):
            part.append(Segment(index, start, stop))
    train, validation, test = (tuple(part) for part in parts)
    return Split(train, validation, test, leaks=True)


def _require(enough: bool, subjects: list[str], *, needed: int) -> None:
    if not enough:
        raise DataError(
            f"the split needs at least {needed} subjects, the store has {len(subjects)} "
            f"({', '.join(subjects)})",
            remedy="preprocess more subjects, change split.fractions, or use split.name=by_sample "
            "(which leaks)",
        )
