"""Ridge regression as a training: one pass over the recordings, shared out over ranks.

Each rank sums over its recordings, the sums are added up over ranks, and all solve the same
equations. Memory of the fit depends on channels and voxels and on the EEG of one recording; the
scores of validation subjects keep about four volumes of each recording.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from eeg2fmri_dist.config.model import RidgeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.splits import PARTS, make_split
from eeg2fmri_dist.data.staging import staged_copy
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.files.run_folder import check_folder
from eeg2fmri_dist.models.build import build_model, count_parameters, model_bytes
from eeg2fmri_dist.models.least_squares import RidgeSolution, Sums, solve_ridge
from eeg2fmri_dist.models.ridge import RidgeRegression, band_average
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs
from eeg2fmri_dist.training.batches.split_data import SplitData, open_data
from eeg2fmri_dist.training.distributed.collectives import add_up
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.fitting.eeg_scale import on_scale, possible_scales
from eeg2fmri_dist.training.fitting.one_epoch import OneEpoch, recorded_run
from eeg2fmri_dist.training.initial_model import make_card
from eeg2fmri_dist.training.progress import Progress
from eeg2fmri_dist.training.ridge_sums import add_recording
from eeg2fmri_dist.training.store_facts import number_targets, store_sizes

logger = logging.getLogger(__name__)

_MIB = 2**20


def fit(config: TrainConfig, session: Session) -> Progress:
    """Fit, score validation subjects, log and save (collective).

    A stop is heeded after each recording. Nothing is kept of a fit that was stopped: it is begun
    again.

    Parameters
    ----------
    config : TrainConfig
        Its model is a `RidgeConfig`.
    session : Session
        Its device computes sums, its heartbeat is told of every recording.

    Returns
    -------
    Progress
        Of the one epoch.

    Raises
    ------
    StopAskedError
        If a rank was asked to stop.
    DataError
        If there is nothing to fit to, or values are not finite.
    """
    store = Store(staged_copy(config.store))
    if session.ranks.is_first:
        check_folder(config, fingerprint_inputs(config))
    assert isinstance(config.model, RidgeConfig)
    model = make_ridge(store, config.data.context, config.model).to(session.device)
    fits = []
    for scale in possible_scales(config):
        scaled = on_scale(config, scale)
        fits.append(_Fit(scaled, store, _open(scaled, store, session.ranks), model, session))
        session.heartbeat.note_progress()
        session.stop.agree()
    with recorded_run(config, session) as monitor:
        fits[0].announce()
        chosen, solution = _choose([(each, each.solve()) for each in fits])
        model.take(solution)
        logger.info(
            "chosen by validation subjects: penalty %.3g, %s",
            solution.penalty,
            model.describe_weighting(),
        )
        made = OneEpoch(chosen.config, store, chosen.data, model, session)
        penalty = {"ridge/penalty": solution.penalty}
        progress = made.score(monitor, penalty)
        tried = {"penalties": solution.penalties, "validation_errors": solution.errors}
        made.save(make_card(chosen.config, store, chosen.data.split, None), progress, tried)
    return progress


def make_ridge(store: Store, context: int, config: RidgeConfig) -> RidgeRegression:
    """Return ridge regression for a store, without weights."""
    model = build_model(config, None, store_sizes(store, context, config))
    assert isinstance(model, RidgeRegression)
    model.bands.copy_(torch.from_numpy(band_average(store.layout.frequencies_hz)))
    model.targets.copy_(torch.from_numpy(number_targets(store, config)))
    return model


def sum_recordings(model: RidgeRegression, data: WindowData) -> Sums:
    """Return the sums over all segments of the data."""
    sums = Sums.empty_for(model.coefficients)
    for number in range(len(data.lengths)):
        add_recording(sums, model, data, number)
    return sums


def plan_closed_form(config: TrainConfig) -> list[str]:
    """Return the lines of ``--dry-run``."""
    store = Store(config.store)
    split = make_split(store.recordings, config.split)
    assert isinstance(config.model, RidgeConfig)
    model = make_ridge(store, config.data.context, config.model)
    features, targets = model.coefficients.shape
    sums_bytes = 2 * 8 * features * (features + targets)
    parts = {
        part: [store.recordings[s.recording].subject for s in split.part(part)] for part in PARTS
    }
    return [
        f"{config.model.name}, in closed form, into {config.output}",
        *(f"  {part}: {len(who)} recordings ({', '.join(who)})" for part, who in parts.items()),
        f"  {features} features x {targets} {config.model.targets}: "
        f"{count_parameters(model):,} weights",
        f"  EEG: {' and '.join(possible_scales(config))}",
        f"  sums over recordings: {sums_bytes / _MIB:.0f} MiB per rank, however many recordings",
        f"  checkpoint: about {model_bytes(model) / _MIB:.0f} MiB",
    ]


def ridge_bytes(config: TrainConfig) -> int:
    """Return how large a checkpoint of ridge regression is."""
    assert isinstance(config.model, RidgeConfig)
    return model_bytes(make_ridge(Store(config.store), config.data.context, config.model))


def _open(config: TrainConfig, store: Store, ranks: Ranks) -> SplitData:
    """Volumes are read once: no use in keeping them."""
    mapped = config.data.model_copy(update={"cache": "mapped"})
    return open_data(config.model_copy(update={"data": mapped}), store, ranks)


def _choose(solved: list[tuple[_Fit, RidgeSolution]]) -> tuple[_Fit, RidgeSolution]:
    """Return the scale of the EEG that suits validation subjects better."""
    best = min(solved, key=lambda pair: float(pair[1].errors.min()))
    if len(solved) > 1:
        logger.info(
            "EEG scale: %s, by the squared error on validation subjects beside that of the mean "
            "(%s)",
            best[0].config.data.eeg_scale,
            ", ".join(f"{fit.config.data.eeg_scale} {s.errors.min():.4g}" for fit, s in solved),
        )
    return best


@dataclass(frozen=True)
class _Fit:
    """What a fit is made of; all its methods but `announce` are collective."""

    config: TrainConfig
    store: Store
    data: SplitData
    model: RidgeRegression
    session: Session

    def announce(self) -> None:
        """Say what is fitted to what."""
        assert isinstance(self.config.model, RidgeConfig)
        logger.info(
            "ridge, %s recipe: %d features x %d %s, %d + %d recordings, %d rank(s) by %s",
            self.config.recipe,
            *self.model.coefficients.shape,
            self.config.model.targets,
            len(self.data.train.lengths),
            len(self.data.validation.lengths),
            self.session.ranks.world_size,
            self.session.ranks.launcher,
        )

    def solve(self) -> RidgeSolution:
        """Sum over recordings and ranks, and solve."""
        train, validation = self._sums(self.data.train), self._sums(self.data.validation)
        solution = solve_ridge(train, validation, self.model.weightings())
        self.session.heartbeat.note_progress()
        return solution

    def _sums(self, data: WindowData) -> Sums:
        """Sums over all segments; each rank reads its own."""
        ranks = self.session.ranks
        sums = Sums.empty_for(self.model.coefficients)
        for first in range(0, len(data.lengths), ranks.world_size):
            if first + ranks.rank < len(data.lengths):
                add_recording(sums, self.model, data, first + ranks.rank)
            self.session.heartbeat.note_progress()
            self.session.stop.agree()
        add_up(sums.tensors())
        return sums
