"""What an evaluation found, in a form that the report and metrics.json are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eeg2fmri_dist.evaluation.score_rows import ScoreRow, gain, regional_gain
from eeg2fmri_dist.evaluation.significance import Interval, RegionTest
from eeg2fmri_dist.pages.figure import Curve, FigureGroup
from eeg2fmri_dist.pages.slicer import Slicer


class Origin(StrEnum):
    """Where recordings come from, as the title says it."""

    REAL = "real data"
    SIMULATED = "simulated data"
    SIMULATED_EEG = "real BOLD, simulated EEG"


# By `source.origin` of the preprocessing config.
ORIGINS = {
    "real": Origin.REAL,
    "simulated": Origin.SIMULATED,
    "simulated_eeg": Origin.SIMULATED_EEG,
}


@dataclass(frozen=True)
class CalibratedScore:
    """PSNR on the paper's scale with a calibration scan of so many volumes.

    Attributes
    ----------
    volumes : int
        Length of the scan: the first volumes of the recording, which are not scored. 0 = none.
    true_eeg, shifted_eeg, mean_image : Interval
        PSNR in dB of the prediction, of the one from circularly shifted EEG, and of the reference
        image alone, over subjects.
    gain : Interval
        True above circularly shifted EEG in dB, subject by subject.
    scaled : bool
        Whether the scan also says how much each voxel changes (`voxel_scale`): only where that made
        validation subjects better by an interval that excludes 0.
    scale_gain : Interval or None
        By how many dB that makes the test subjects better, chosen or not; None without a scan.
    """

    volumes: int
    true_eeg: Interval
    shifted_eeg: Interval
    mean_image: Interval
    gain: Interval
    scaled: bool = False
    scale_gain: Interval | None = None


@dataclass(frozen=True)
class AdaptedScore:
    """Correlation over time when a scan with EEG moved the model toward the subject.

    Attributes
    ----------
    volumes : int
        Length of the scan: the first volumes of the recording, which are not scored.
    penalty : float or None
        That validation subjects chose; None = no step was clearly better for them.
    before : Interval
        r of regions without the step, over subjects.
    true_eeg, shifted_eeg : Interval
        With it; shifted: in the scan and after it.
    gain : Interval
        With the step above without, subject by subject.
    """

    volumes: int
    penalty: float | None
    before: Interval
    true_eeg: Interval
    shifted_eeg: Interval
    gain: Interval


@dataclass(frozen=True)
class RunSection:
    """One trained model and its scores.

    Attributes
    ----------
    name : str
        Name of the run folder.
    recipe : str
        ``paper`` or ``own``.
    model : str
        ``transformer``, ``unet``, ``cae``, ``ridge``.
    parameters : int
        Trainable numbers.
    rows : sequence of ScoreRow
        Variants: ``eeg_only``, ``shifted``, ``zero``, ``teacher_forced``,
        ``teacher_forced_shifted``, or ``reconstruction`` for a model that takes no EEG.
    curves : sequence of Curve
        Loss, PSNR, SSIM over epochs.
    chosen_epoch : float or None
        Epoch of the checkpoint that was scored.
    figures : sequence of FigureGroup
        Slices, regional curves, matrices.
    slicer : Slicer or None
        Slices that a slider moves through time.
    facts : mapping of str to str
        Shown as a table: learning rate, reference image, training time, what chose the
        checkpoint, ...
    calibrated : sequence of CalibratedScore
        PSNR with calibration scans of growing length; empty where it was not asked for.
    adapted : sequence of AdaptedScore
        r of regions when such scans, with their EEG, also moved the model toward the subject.
    weights_sha256 : str
        Hash (hex) of the weights that were scored; empty where it is not known. Evaluations of
        former versions recorded its first 16 digits alone.
    """

    name: str
    recipe: str
    model: str
    parameters: int
    rows: Sequence[ScoreRow]
    curves: Sequence[Curve] = ()
    chosen_epoch: float | None = None
    figures: Sequence[FigureGroup] = ()
    slicer: Slicer | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    calibrated: Sequence[CalibratedScore] = ()
    adapted: Sequence[AdaptedScore] = ()
    weights_sha256: str = ""

    @property
    def shown_facts(self) -> dict[str, str]:
        """The facts, and which weights they are of, for the table of the report."""
        weights = {"Weights": self.weights_sha256[:16]} if self.weights_sha256 else {}
        return {**self.facts, **weights}

    def row(self, name: str) -> ScoreRow | None:
        """Return the variant of that name, if it was scored."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def gain_over_shifted(self) -> Interval | None:
        """R of regions with true EEG minus r with shifted EEG, paired over subjects."""
        eeg_only, shifted = self.row("eeg_only"), self.row("shifted")
        return gain(eeg_only, shifted) if eeg_only and shifted else None

    @property
    def regions_over_shifted(self) -> RegionTest | None:
        """The same for each region."""
        eeg_only, shifted = self.row("eeg_only"), self.row("shifted")
        return regional_gain(eeg_only, shifted) if eeg_only and shifted else None


@dataclass(frozen=True)
class DataFacts:
    """What was learned from and scored on.

    Attributes
    ----------
    origin : Origin
        Real, simulated, or real BOLD with simulated EEG.
    store, fingerprint : str
        Name and fingerprint of the store.
    train, validation, test : sequence of str
        Subject ids.
    split : str
        Kind of split, as in the config.
    leaks : bool
        True where a subject is in more than one part.
    atlas : str
        Where the regions are from, and how many there are.
    n_volumes : int
        Volumes in the store.
    tr_s : float
        Repetition time in s.
    grid : tuple of int
        Voxels along x, y, z.
    scored : str
        Part of the split that was scored: ``test`` or ``validation``.
    ssim_every : int
        SSIM was computed on each n-th volume.
    region_names : sequence of str
        In the order of every `RegionTest`.
    remarks : sequence of str
        Anything a reader must know (parcels in place of an atlas, a TR mismatch, ...).
    """

    origin: Origin
    store: str
    fingerprint: str
    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]
    split: str
    leaks: bool
    atlas: str
    n_volumes: int
    tr_s: float
    grid: tuple[int, int, int]
    scored: str = "test"
    ssim_every: int = 1
    region_names: Sequence[str] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class ReportInput:
    """Everything that the report and metrics.json show.

    Attributes
    ----------
    title : str
        Of the report; where the data come from and whether the split leaks is added.
    data : DataFacts
        Recordings and split.
    runs : sequence of RunSection
        Trained models, in the order of the page.
    baselines : sequence of ScoreRow
        Named as in `baselines.BASELINES`.
    provenance : mapping of str to str
        Commit, versions, host, command.
    made_from : mapping
        All that the evaluation depends on (`files.made_from`).
    """

    title: str
    data: DataFacts
    runs: Sequence[RunSection]
    baselines: Sequence[ScoreRow] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_title(self) -> str:
        """Title with what a reader must know before anything else."""
        warning = (
            " (leaking split: test subjects are in the training data)" if self.data.leaks else ""
        )
        return f"{self.title}: {self.data.origin}{warning}"
