"""Scores of one run in a few seconds: regional means with true and with shifted EEG, and PSNR.

`python -m eeg2fmri_dist.evaluation.regional RUN` writes ``RUN/regional.json``. For many runs at a
time (learning curves); `launch/evaluate.py` has all scores, controls and figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from eeg2fmri_dist.config.names.former_names import with_current_scores
from eeg2fmri_dist.data.controls import shifted_eeg
from eeg2fmri_dist.errors import SuiteError
from eeg2fmri_dist.evaluation.baselines.eeg_controls import free_running
from eeg2fmri_dist.evaluation.baselines.noise_ceiling import Ceiling, shared_noise
from eeg2fmri_dist.evaluation.scored_set import ScoredRecording, ScoredSet, load_scored_set
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.inference.model_file import TrainedModel, load_model
from eeg2fmri_dist.inference.weights import resolve_weights
from eeg2fmri_dist.scores.metrics import psnr, specific_correlation
from eeg2fmri_dist.scores.networks import regional_correlation
from eeg2fmri_dist.scores.temporal import (
    DETREND_ORDER,
    detrend,
    temporal_correlation,
    temporal_std_ratio,
)

NAME = "regional.json"
Scores = dict[str, dict[str, float]]  # score -> subject -> value


def score_regions(run: Path, truth: Path | None = None) -> Scores:
    """Score the best checkpoint of a run on the test subjects of its split.

    Parameters
    ----------
    run : Path
        Run folder of a model that predicts from EEG.
    truth : Path or None
        Folder with the truth of simulated subjects.

    Returns
    -------
    dict of str to dict of str to float
        Score -> subject -> value (mean over the subject's recordings): ``r_region``,
        ``r_region_gsr``, ``std_ratio`` and ``psnr_zscore_db`` as in metrics.json, the first two
        also ``_shifted`` (EEG from half a recording away).
        With the truth also ``r_driven``: r with the noise-free BOLD that the EEG shows, and
        ``r_shared_noise``: r of the prediction's global signal with the noise that BOLD and EEG
        share (0 where there is none).

    Raises
    ------
    CheckpointError
        If the run has no whole checkpoint, does not fit its store or is a CAE.
    """
    trained = load_model(resolve_weights(run, "best"))
    scored_set = load_scored_set([(run, trained)])
    return score_by_subject(
        scored_set, lambda recording: _score_recording(trained, scored_set, recording, truth)
    )


def score_by_subject(
    scored_set: ScoredSet, score: Callable[[ScoredRecording], dict[str, float]]
) -> Scores:
    """Return score -> subject -> mean over the subject's recordings.

    Parameters
    ----------
    scored_set : ScoredSet
    score : callable
        Recording -> score -> value.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for recording in scored_set.recordings:
        for name, value in score(recording).items():
            found.setdefault(name, {}).setdefault(recording.subject, []).append(value)
    return {
        name: {subject: float(np.mean(values)) for subject, values in by_subject.items()}
        for name, by_subject in found.items()
    }


def score_volumes(
    volumes: np.ndarray, scored_set: ScoredSet, recording: ScoredRecording
) -> dict[str, float]:
    """Score one prediction, (volume, x, y, z), of a recording.

    Returns
    -------
    dict of str to float
        ``r_region``, ``r_region_gsr``, ``std_ratio`` and ``psnr_zscore_db`` as in metrics.json.
    """
    series, true = scored_set.regional_series(volumes), recording.true_regions
    return {
        "r_region": regional_correlation(series, true),
        "r_region_gsr": specific_correlation(series, true),
        "std_ratio": temporal_std_ratio(series, true),
        "psnr_zscore_db": psnr(volumes, recording.true, float(np.ptp(recording.true))),
    }


def read_regions(run: Path) -> Scores | None:
    """Return what `score_regions` found for a run; None if it was not scored yet."""
    try:
        return with_current_scores(json.loads((run / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _score_recording(
    trained: TrainedModel, scored_set: ScoredSet, recording: ScoredRecording, truth: Path | None
) -> dict[str, float]:
    eeg_only = free_running(trained, recording)
    series, true = scored_set.regional_series(eeg_only), recording.true_regions
    shifted = scored_set.regional_series(free_running(trained, recording, shifted_eeg))
    scores = score_volumes(eeg_only, scored_set, recording) | {
        "r_region_shifted": regional_correlation(shifted, true),
        "r_region_gsr_shifted": specific_correlation(shifted, true),
    }
    return scores if truth is None else scores | against_truth(series, scored_set, recording, truth)


def against_truth(
    series: np.ndarray, scored_set: ScoredSet, recording: ScoredRecording, truth: Path
) -> dict[str, float]:
    """Correlate a prediction with what a simulated subject's BOLD is made of.

    Parameters
    ----------
    series : ndarray of shape (volume, region)
        Predicted regional means, detrended.
    scored_set : ScoredSet
    recording : ScoredRecording
    truth : Path
        Folder with the truth of simulated subjects.

    Returns
    -------
    dict of str to float
        ``r_driven`` and ``r_shared_noise`` (see `score_regions`).
    """
    layout = scored_set.store.layout
    driven = scored_set.regional_series(
        Ceiling(truth, layout, scored_set.scaling.reference)(recording)
    )
    noise = detrend(shared_noise(truth, layout, recording), DETREND_ORDER)
    of_all = series.mean(axis=1)
    return {
        "r_driven": regional_correlation(series, driven),
        "r_shared_noise": float(temporal_correlation(of_all, noise)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Score the run that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m eeg2fmri_dist.evaluation.regional", description=__doc__
    )
    parser.add_argument("run", type=Path, help="run folder of launch/train.py")
    parser.add_argument("--truth", type=Path, help="folder with the truth of simulated subjects")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: all cores")
    options: Any = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
        threadpool_limits(options.threads, user_api="blas")
    try:
        scores = score_regions(options.run, options.truth)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write_json(options.run / NAME, scores)
    for name, by_subject in scores.items():
        print(f"{name:<20} {np.mean([*by_subject.values()]):8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
