"""Evaluated models side by side, and which of them may stand side by side at all.

Two scores are comparable if they are of the same recordings and regions. Whatever else differs
(subjects, training data, part of the split) is said beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eeg2fmri_dist.evaluation.labels import run_title
from eeg2fmri_dist.evaluation.metrics_file import ModelScores, read_report
from eeg2fmri_dist.evaluation.results import DataFacts
from eeg2fmri_dist.evaluation.score_rows import ScoreRow, gain
from eeg2fmri_dist.evaluation.significance import Interval

PAIRED_SCORES = ("r_region", "r_voxel", "fc_similarity", "psnr_minmax_db")


@dataclass(frozen=True)
class Entry:
    """An evaluated model.

    Attributes
    ----------
    label : str
        Unique on the page.
    model_scores : ModelScores
    source : Path
        Where its scores were read.
    """

    label: str
    model_scores: ModelScores
    source: Path

    @property
    def data(self) -> DataFacts:
        """What it was scored on."""
        return self.model_scores.report.data

    @property
    def row(self) -> ScoreRow:
        """Its prediction from EEG alone; of a model without EEG, what it has."""
        return self.model_scores.run.row("eeg_only") or self.model_scores.run.rows[0]

    @property
    def subjects(self) -> frozenset[str]:
        """Subjects who were scored."""
        return frozenset(self.row.subjects)

    @property
    def gain_over_shifted(self) -> Interval | None:
        """Paired difference of r with true and with circularly shifted EEG."""
        return self.model_scores.run.gain_over_shifted


@dataclass(frozen=True)
class ComparableSet:
    """Models whose scores are of the same subjects of the same recordings.

    Attributes
    ----------
    entries : sequence of Entry
    remarks : sequence of str
        What else differs between them.
    """

    entries: Sequence[Entry]
    remarks: Sequence[str]

    @property
    def data(self) -> DataFacts:
        """What all of them were scored on."""
        return self.entries[0].data

    @property
    def subjects(self) -> list[str]:
        """Subjects who were scored."""
        return sorted(self.entries[0].subjects)

    @property
    def baselines(self) -> list[tuple[str, Sequence[ScoreRow]]]:
        """Heading and rows of what needs no network, once for each set of training subjects."""
        found: dict[tuple[str, ...], Sequence[ScoreRow]] = {}
        for entry in self.entries:
            found.setdefault(tuple(entry.data.train), entry.model_scores.report.baselines)
        if len(found) == 1:
            return [("For comparison", rows) for rows in found.values() if rows]
        return [
            (f"For comparison, fitted on {', '.join(train)}", rows)
            for train, rows in found.items()
            if rows
        ]


@dataclass(frozen=True)
class PairedDifference:
    """One model against another over the subjects that both were scored on.

    Attributes
    ----------
    first, second : Entry
    intervals : dict of str to Interval
        Score -> mean and 95 % interval over subjects of first - second.
    remark : str
        Why the difference is not of the models alone; empty where nothing else differs.
    """

    first: Entry
    second: Entry
    intervals: dict[str, Interval]
    remark: str

    @property
    def shared(self) -> frozenset[str]:
        """Subjects that both were scored on."""
        return self.first.subjects & self.second.subjects


@dataclass(frozen=True)
class Comparison:
    """Everything that the page shows.

    Attributes
    ----------
    title : str
    sets : sequence of ComparableSet
        Scores may be compared within a set, not between sets.
    barriers : sequence of str
        Why the sets are apart, one sentence for each after the first.
    pairs : sequence of PairedDifference
    """

    title: str
    sets: Sequence[ComparableSet]
    barriers: Sequence[str]
    pairs: Sequence[PairedDifference]

    @property
    def entries(self) -> list[Entry]:
        """All models."""
        return [entry for each in self.sets for entry in each.entries]


def compare(paths: Sequence[Path], title: str) -> Comparison:
    """Read evaluations and sort their models by what they may be compared with.

    Parameters
    ----------
    paths : sequence of Path
        metrics.json files, or folders that hold one. A model that is found twice is shown once.
    title : str
        Of the page.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If a file is not an evaluation of this version.
    """
    entries = _unique_labels(_unique_models(paths))
    sets: dict[tuple, list[Entry]] = {}
    for entry in entries:
        sets.setdefault(_scored_on(entry), []).append(entry)
    comparable = [ComparableSet(members, _remarks(members)) for members in sets.values()]
    return Comparison(
        title=title,
        sets=comparable,
        barriers=[_barrier(comparable[0], other) for other in comparable[1:]],
        pairs=[
            _difference(first, second)
            for first, second in itertools.combinations(entries, 2)
            if _same_recordings(first) == _same_recordings(second)
            and first.subjects & second.subjects
            and _takes_eeg(first) == _takes_eeg(second)
        ],
    )


def _unique_models(paths: Sequence[Path]) -> list[Entry]:
    found: dict[tuple, Entry] = {}
    for number, path in enumerate(paths):
        report = read_report(path)
        for run in report.runs:
            entry = Entry(run_title(run), ModelScores(report, run), path)
            weights = run.weights_sha256[:16] or f"{number} {run.name}"
            found.setdefault((weights, *_scored_on(entry)), entry)
    return list(found.values())


def _unique_labels(entries: Sequence[Entry]) -> list[Entry]:
    """Entries whose labels tell them apart: by model, else by run, folder or number."""
    by_label: dict[str, list[Entry]] = {}
    for entry in entries:
        by_label.setdefault(entry.label, []).append(entry)
    labels: dict[int, str] = {}
    for label, same in by_label.items():
        details = next(filter(_all_differ, _details(same)))
        texts = [f"{label} ({detail})" for detail in details] if len(same) > 1 else [label]
        labels |= {id(entry): text for entry, text in zip(same, texts, strict=True)}
    return [replace(entry, label=labels[id(entry)]) for entry in entries]


def _details(entries: Sequence[Entry]) -> list[list[str]]:
    folders = [entry.source if entry.source.is_dir() else entry.source.parent for entry in entries]
    return [
        [entry.model_scores.run.name for entry in entries],
        [folder.name for folder in folders],
        [str(folder) for folder in folders],
        [str(number) for number in range(1, len(entries) + 1)],
    ]


def _all_differ(details: Sequence[str]) -> bool:
    return len(set(details)) == len(details)


def _same_recordings(entry: Entry) -> tuple:
    return entry.data.fingerprint, entry.data.atlas


def _scored_on(entry: Entry) -> tuple:
    return *_same_recordings(entry), entry.data.scored, entry.subjects


def _takes_eeg(entry: Entry) -> bool:
    return entry.model_scores.run.row("eeg_only") is not None


def _remarks(entries: Sequence[Entry]) -> list[str]:
    """What differs between models that were scored on the same subjects."""
    remarks = []
    trained_on = {tuple(entry.data.train) for entry in entries}
    if len(trained_on) > 1:
        texts = (f"{entry.label} on {', '.join(entry.data.train)}" for entry in entries)
        remarks.append(f"The models were trained on different subjects: {'; '.join(texts)}.")
    if leaking := [entry.label for entry in entries if entry.data.leaks]:
        remarks.append(
            f"The split of {', '.join(leaking)} leaks: subjects who are scored are in the "
            "training data, so these scores say nothing about new subjects."
        )
    if len({entry.data.ssim_every for entry in entries}) > 1:
        texts = (f"{entry.label}: each {entry.data.ssim_every}" for entry in entries)
        remarks.append(f"SSIM is of different volumes ({', '.join(texts)}).")
    if entries[0].data.scored != "test":
        remarks.append("The subjects who are scored also chose the checkpoints.")
    return remarks


def _barrier(first: ComparableSet, other: ComparableSet) -> str:
    """Why the scores of two sets are not comparable."""
    reasons = []
    if first.data.fingerprint != other.data.fingerprint:
        reasons.append(f"the store is another one ({other.data.store}, {other.data.origin})")
    elif set(first.subjects) != set(other.subjects):
        reasons.append(f"other subjects were scored ({', '.join(other.subjects)})")
    if first.data.atlas != other.data.atlas:
        reasons.append(f"the regions are others ({other.data.atlas})")
    if first.data.scored != other.data.scored:
        reasons.append(f"it is the {other.data.scored} part of the split")
    return "; ".join(reasons)


def _difference(first: Entry, second: Entry) -> PairedDifference:
    present = {name for scores in first.row.subjects.values() for name in scores}
    present &= {name for scores in second.row.subjects.values() for name in scores}
    remarks = []
    if first.subjects != second.subjects:
        shared = first.subjects & second.subjects
        remarks.append(f"the {len(shared)} subjects that both were scored on")
    if set(first.data.train) != set(second.data.train):
        remarks.append("trained on other subjects")
    if first.data.leaks or second.data.leaks:
        remarks.append("a split leaks")
    return PairedDifference(
        first,
        second,
        {name: gain(first.row, second.row, name) for name in PAIRED_SCORES if name in present},
        ", ".join(remarks),
    )
