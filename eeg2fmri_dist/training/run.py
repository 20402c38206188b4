"""One training, whatever is fitted: join the other ranks, fit, leave a finished run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits

from eeg2fmri_dist.config.model import EnsembleConfig, RidgeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.files.run_folder import mark_finished
from eeg2fmri_dist.training.distributed.preemption import StopRequest
from eeg2fmri_dist.training.distributed.ranks import discover_ranks
from eeg2fmri_dist.training.distributed.session import Session, open_session
from eeg2fmri_dist.training.fitting import ensemble, gradient, ridge
from eeg2fmri_dist.training.progress import Progress

logger = logging.getLogger(__name__)

Fit = Callable[[TrainConfig, Session], Progress]
# By the class of the model's config; all others are trained by gradient steps.
_FITS: dict[type, Fit] = {RidgeConfig: ridge.fit, EnsembleConfig: ensemble.fit}


def train(config: TrainConfig, stop: StopRequest) -> None:
    """Train to the end, or continue a run that was cut off (called on every rank).

    Parameters
    ----------
    config : TrainConfig
        What to train.
    stop : StopRequest
        Listening for signals since the process started.

    Raises
    ------
    SuiteError
        With the exit codes of `eeg2fmri_dist.errors`.
    """
    ranks = discover_ranks(config.world_size)
    if not ranks.is_first:
        logging.getLogger("eeg2fmri_dist").setLevel(logging.WARNING)
    _use_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // ranks.local_size))
    fit = _FITS.get(type(config.model), gradient.fit)
    with open_session(ranks, stop, config.watchdog.stall_timeout_s) as session:
        progress = fit(config, session)
        if ranks.is_first:
            mark_finished(config.output, {"steps": progress.step, "best": progress.best_score})
            logger.info("%s is done after %d steps", config.output, progress.step)


def _use_threads(count: int) -> None:
    """Limit torch, and numpy, whose scores would else take every core from the other ranks."""
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")
