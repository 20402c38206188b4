"""A small report with everything in it that a report can have."""

import functools
from dataclasses import replace

import numpy as np

from eeg2fmri_dist.evaluation.report import figures
from eeg2fmri_dist.evaluation.results import (
    AdaptedScore,
    CalibratedScore,
    DataFacts,
    Origin,
    ReportInput,
    RunSection,
)
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.significance import RegionTest, subject_interval
from eeg2fmri_dist.pages.figure import Curve, FigureGroup

SUBJECTS = ("43", "48", "49", "50")


def row(name, r, p=0.5, std_ratio=0.6, subjects=SUBJECTS, **others):
    """A row whose r varies a little over subjects around `r`."""
    spread = np.linspace(-0.01, 0.01, len(subjects)) if len(subjects) > 1 else [0.0]
    scores = {
        subject: {"r_region": r + delta, "std_ratio": std_ratio, **others}
        for subject, delta in zip(subjects, spread, strict=True)
    }
    return ScoreRow(name, scores, p)


def with_regions(scored):
    """The same row with r of two regions, in each subject and tested."""
    regional = {who: (values["r_region"], 0.1) for who, values in scored.subjects.items()}
    means = tuple(np.mean([*regional.values()], axis=0).tolist())
    return replace(scored, regions=RegionTest(means, (0.01, 0.4), (0.02, 0.4)), regional=regional)


def run(*rows, **options):
    """A Transformer's section."""
    return RunSection("transformer", "default", "transformer", 1234567, rows, **options)


@functools.cache
def _figure_groups():
    rng = np.random.default_rng(0)
    true, predicted = 700 + rng.normal(size=(2, 30, 8))
    volumes = rng.uniform(500, 900, size=(2, 8, 9, 7))
    mask = np.ones((8, 9, 7), bool)
    curves = figures.regional_curves(predicted, true, list("abcdefgh"), 2.16, count=2)
    return [
        FigureGroup("Volumes", "", [figures.volume_slices(*volumes, mask, (3, 3, 6))]),
        FigureGroup("Curves", "", curves),
        FigureGroup("FC", "", figures.correlation_matrices(predicted, true, list("abcdefgh"))),
    ]


def make_report(**changes):
    """Return a report of a Transformer and a CAE; `changes` are of `DataFacts`."""
    rows = (
        with_regions(row("eeg_only", 0.4, 1e-4, psnr_minmax_db=np.inf, ssim2d_minmax=np.nan)),
        with_regions(row("shifted", 0.0)),
    )
    section = run(
        *rows,
        curves=[Curve("loss", [(1, 0.5), (2, 0.4)], [(1, 0.6), (2, 0.5)]), Curve("empty")],
        chosen_epoch=2,
        calibrated=[
            CalibratedScore(length, *(subject_interval([psnr_db, psnr_db + 1.0]) for _ in range(4)))
            for length, psnr_db in ((0, 25.0), (10, 47.0))
        ],
        adapted=[
            AdaptedScore(length, penalty, *(subject_interval([r, r + 0.1]) for _ in range(4)))
            for length, penalty, r in ((10, None, 0.3), (30, 100.0, 0.4))
        ],
        figures=_figure_groups(),
        facts={"Note": "<script>alert(1)</script>"},
    )
    facts = {
        "origin": Origin.SIMULATED,
        "store": "store.h5",
        "fingerprint": "abc",
        "train": ["32"],
        "validation": ["35"],
        "test": SUBJECTS,
        "split": "by_subject",
        "leaks": False,
        "atlas": "four slabs",
        "n_volumes": 60,
        "tr_s": 2.16,
        "grid": (8, 9, 7),
        "region_names": ["Cuneus", "Insula"],
        **changes,
    }
    autoencoder = RunSection("cae", "default", "cae", 10, [row("reconstruction", 0.9)])
    baselines = [row("training_mean", 0.0, 1.0, 0.0)]
    return ReportInput("Demo", DataFacts(**facts), [section, autoencoder], baselines)
