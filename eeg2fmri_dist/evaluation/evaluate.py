"""Trained runs -> scores of subjects they have never seen, beside what needs no model."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eeg2fmri_dist.config.evaluate import EvaluateConfig
from eeg2fmri_dist.data.controls import shifted_eeg, true_eeg
from eeg2fmri_dist.data.normalization import to_volumes
from eeg2fmri_dist.data.splits import PARTS
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.evaluation import reference_baselines
from eeg2fmri_dist.evaluation.baselines.eeg_controls import (
    ChangeEeg,
    best_device,
    free_running,
    score_controls,
)
from eeg2fmri_dist.evaluation.baselines.noise_ceiling import Ceiling, with_explained
from eeg2fmri_dist.evaluation.baselines.ridge import fit_ridge_control
from eeg2fmri_dist.evaluation.metrics_file import METRICS
from eeg2fmri_dist.evaluation.report.brain_maps import CorrelationMap, correlation_figure
from eeg2fmri_dist.evaluation.report.page import write_report
from eeg2fmri_dist.evaluation.report.sections import describe_run, illustrate, voxel_mm
from eeg2fmri_dist.evaluation.results import (
    ORIGINS,
    AdaptedScore,
    CalibratedScore,
    DataFacts,
    ReportInput,
    RunSection,
)
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import (
    Scope,
    ScoredRecording,
    ScoredSet,
    load_scored_set,
    read_scored_set,
)
from eeg2fmri_dist.evaluation.with_scan.adaptation import KeptMeans, score_adapted
from eeg2fmri_dist.evaluation.with_scan.reference_image import score_calibrated, usable_lengths
from eeg2fmri_dist.files.made_from import describe, read_record, why_stale
from eeg2fmri_dist.files.provenance import git_state, package_versions
from eeg2fmri_dist.files.run_folder import load_run_config, read_summary
from eeg2fmri_dist.inference.model_file import TrainedModel, load_model
from eeg2fmri_dist.inference.objectives import TokenGeneration
from eeg2fmri_dist.inference.predict import objective_of, predict_teacher_forced, predict_windows
from eeg2fmri_dist.inference.weights import resolve_weights, weights_sha256
from eeg2fmri_dist.pages.figure import FigureGroup
from eeg2fmri_dist.pages.slicer import make_slicer
from eeg2fmri_dist.store import Store

logger = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> None:
    """Score runs and baselines; write ``metrics.json`` and ``report.html``.

    Parameters
    ----------
    config : EvaluateConfig
        Runs of one store and one split.

    Raises
    ------
    CheckpointError
        If a run has no whole checkpoint or does not fit its store.
    ConfigError
        If the runs were trained on different stores or splits.
    """
    reason = why_evaluate(config)
    if reason is None:
        logger.info("%s is up to date", config.output / "report.html")
        return
    logger.info("%s: %s", config.output, reason)
    config.output.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    if config.threads:
        torch.set_num_threads(config.threads)
    runs = [(path, load_model(resolve_weights(path, "best"))) for path in config.runs]
    scored_set = load_scored_set(runs, scope_of(config))
    validation_set = _validation_set(config, scored_set)
    report = ReportInput(
        title=config.title,
        data=describe_data(config, scored_set),
        runs=[
            _with_weights(
                score_run(path, trained, scored_set, config.calibration_volumes, validation_set),
                path,
            )
            for path, trained in runs
        ],
        baselines=score_baselines(scored_set),
        provenance=_provenance(),
        made_from=made_from(config),
    )
    if config.truth:
        report = relate_to_ceiling(report, config.truth, scored_set)
    write_report(report, config.output)
    for path, section in zip(config.runs, report.runs, strict=True):
        if path.resolve() != config.output.resolve():
            write_report(replace(report, runs=[section]), path)
    logger.info("wrote %s", config.output / "report.html")


def _validation_set(config: EvaluateConfig, scored_set: ScoredSet) -> ScoredSet | None:
    """Read who chooses how far to adapt to a subject; None where nobody is adapted to."""
    if not config.calibration_volumes or config.subjects == "validation":
        return None
    others = replace(scope_of(config), subjects="validation")
    return read_scored_set(scored_set.store, scored_set.split, others)


def scope_of(config: EvaluateConfig) -> Scope:
    """Return what of the split is scored."""
    return Scope(config.subjects, config.max_volumes, config.ssim_every)


def _with_weights(section: RunSection, run: Path) -> RunSection:
    """Say which weights were scored, so that a prediction with them can quote the scores."""
    return replace(section, weights_sha256=weights_sha256(resolve_weights(run, "best")))


def made_from(config: EvaluateConfig) -> dict[str, Any]:
    """Return all that an evaluation depends on."""
    weights = {str(run): weights_sha256(resolve_weights(run, "best")) for run in config.runs}
    stores = sorted({load_run_config(run).store for run in config.runs})
    fingerprints = {str(path): Store(path).fingerprint for path in stores if path.exists()}
    truth = sorted(config.truth.glob("*.npz")) if config.truth else []
    settings = config.model_dump(mode="json", exclude={"runs", "output", "threads"})
    return describe(
        weights=weights,
        stores=fingerprints,
        truth={path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in truth},
        settings=settings,
    )


def why_evaluate(config: EvaluateConfig) -> str | None:
    """Return why the output must be made (again); None = it is made from just this.

    Raises
    ------
    CheckpointError
        If a run has no whole checkpoint.
    """
    now = made_from(config)
    metrics = read_record(config.output / METRICS)
    if not metrics or not (config.output / "report.html").exists():
        return "there is no report yet"
    return why_stale(metrics.get("made_from"), now)


def score_run(
    path: Path,
    trained: TrainedModel,
    scored_set: ScoredSet,
    calibration_volumes: Sequence[int] = (),
    validation_set: ScoredSet | None = None,
) -> RunSection:
    """Score a run with true and false EEG, teacher-forced, calibrated and adapted if it can be."""
    logger.info("%s", path)
    calibrated: list[CalibratedScore] = []
    adapted: list[AdaptedScore] = []
    maps: list[FigureGroup] = []
    if trained.card.model["name"] == "cae":
        predict = functools.partial(_reconstruct, trained, scored_set)
        rows = [scored_set.row("reconstruction", predict)]
    else:
        brain = CorrelationMap(scored_set.store.layout.mask)
        predict = functools.partial(free_running, trained)
        watched = brain.watching(predict)
        rows = score_controls(watched, scored_set) + _score_teacher_forced(trained, scored_set)
        lengths = usable_lengths(calibration_volumes, scored_set)
        kept = KeptMeans(predict, scored_set.regions)
        calibrated = score_calibrated(
            kept.volumes, trained.scaling.fraction, scored_set, lengths, validation_set
        )
        if validation_set is not None:
            adapted = score_adapted(trained, kept.means, scored_set, validation_set, lengths)
        maps = [_map_of(brain, scored_set)]
    recording = scored_set.recordings[0]
    predicted, layout = predict(recording), scored_set.store.layout
    tr_s, subject = trained.card.tr_s, recording.subject
    return replace(
        describe_run(path, trained, read_summary(path), rows),
        calibrated=calibrated,
        adapted=adapted,
        figures=maps
        + illustrate(
            predicted,
            recording.true,
            layout,
            scored_set.regions,
            scored_set.regional_series,
            subject=subject,
            tr_s=tr_s,
            in_time=rows[0].name == "eeg_only",
        ),
        slicer=make_slicer(
            predicted, recording.true, layout.mask, voxel_mm(layout), tr_s, f"Subject {subject}."
        ),
    )


def _map_of(brain: CorrelationMap, scored_set: ScoredSet) -> FigureGroup:
    layout, count = scored_set.store.layout, len(scored_set.recordings)
    drawn = correlation_figure(brain.volume(), layout.mask, voxel_mm(layout), count)
    return FigureGroup("Where in the brain", "", [drawn])


def _score_teacher_forced(trained: TrainedModel, scored_set: ScoredSet) -> list[ScoreRow]:
    """Score a Transformer that is given the true past, with true and circularly shifted EEG."""
    if not isinstance(objective_of(trained), TokenGeneration):
        return []
    changes = {
        "teacher_forced": true_eeg,
        "teacher_forced_shifted": shifted_eeg,
    }
    return [
        scored_set.row(name, functools.partial(_teacher_forced, trained, scored_set, change))
        for name, change in changes.items()
    ]


def _teacher_forced(
    trained: TrainedModel,
    scored_set: ScoredSet,
    change: ChangeEeg,
    recording: ScoredRecording,
) -> np.ndarray:
    data = _window_data(trained, scored_set, recording)
    data.change_eeg(change)
    objective = objective_of(trained, best_device())
    assert isinstance(objective, TokenGeneration)
    predicted = predict_teacher_forced(objective, data, data.tiling_windows(0), best_device())
    return to_volumes(predicted, trained.data, trained.scaling) * trained.mask


def _reconstruct(
    trained: TrainedModel, scored_set: ScoredSet, recording: ScoredRecording
) -> np.ndarray:
    data = _window_data(trained, scored_set, recording)
    objective = objective_of(trained, best_device())
    predicted = predict_windows(objective, data, data.tiling_windows(0), best_device())
    return to_volumes(predicted, trained.data, trained.scaling) * trained.mask


def _window_data(
    trained: TrainedModel, scored_set: ScoredSet, recording: ScoredRecording
) -> WindowData:
    return WindowData(scored_set.store, [recording.segment], trained.data, trained.scaling)


def score_baselines(scored_set: ScoredSet) -> list[ScoreRow]:
    """Score what needs no network: mean images, a copy of the past, ridge regression."""
    logger.info("baselines")
    mean = scored_set.scaling.reference
    ridge = fit_ridge_control(scored_set)
    predictions: dict[str, Callable[[ScoredRecording], np.ndarray]] = {
        "training_mean": lambda recording: reference_baselines.training_mean(
            mean[None], len(recording.true)
        ),
        "ridge": lambda recording: ridge.predict(recording.power),
        "ridge_shifted": lambda recording: ridge.predict(shifted_eeg(recording.power)),
        "subject_mean": lambda recording: reference_baselines.subject_mean(recording.true),
        "last_volume": lambda recording: reference_baselines.last_volume(recording.true),
    }
    return [scored_set.row(name, predict) for name, predict in predictions.items()]


def relate_to_ceiling(report: ReportInput, truth: Path, scored_set: ScoredSet) -> ReportInput:
    """Add the noise ceiling of simulated subjects, and each score's share of it."""
    predict = Ceiling(truth, scored_set.store.layout, scored_set.scaling.reference)
    ceiling = scored_set.row("ceiling", predict)
    return replace(
        report,
        runs=[replace(run, rows=with_explained(run.rows, ceiling)) for run in report.runs],
        baselines=with_explained([*report.baselines, ceiling], ceiling),
    )


def describe_data(config: EvaluateConfig, scored_set: ScoredSet) -> DataFacts:
    """Collect what the report says about the data."""
    store, split = scored_set.store, scored_set.split
    subjects = {
        part: sorted({store.recordings[segment.recording].subject for segment in split.part(part)})
        for part in PARTS
    }
    run_config = load_run_config(config.runs[0])
    source = store.layout.settings.get("source", {})
    return DataFacts(
        origin=ORIGINS[source.get("origin", "real")],
        store=store.path.name,
        fingerprint=store.fingerprint,
        train=subjects["train"],
        validation=subjects["validation"],
        test=subjects["test"],
        split=run_config.split.name,
        leaks=split.leaks,
        atlas=f"{scored_set.regions.atlas}, {len(scored_set.regions)} regions",
        n_volumes=store.n_samples,
        tr_s=store.recordings[0].tr_s,
        grid=store.layout.grid,
        scored=config.subjects,
        ssim_every=config.ssim_every,
        region_names=scored_set.regions.names,
        remarks=_remarks(scored_set),
    )


def _remarks(scored_set: ScoredSet) -> list[str]:
    remarks = []
    if "parcel" in scored_set.regions.atlas.lower():
        remarks.append(
            "Regions are parcels cut from the brain mask: the Harvard-Oxford atlas was not found."
        )
    for entry in scored_set.store.recordings:
        note = entry.quality.get("tr_mismatch")
        if note:
            remarks.append(f"{entry.key}: {note}")
    return remarks


def _provenance() -> dict[str, str]:
    git = git_state() or {}
    versions = package_versions()
    return {
        "commit": f"{git.get('commit', 'unknown')}{' (modified)' if git.get('modified') else ''}",
        **{name: versions[name] for name in ("torch", "deepspeed", "numpy") if name in versions},
    }
