"""A model that is made in one go, without optimizer steps: scored once, saved once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.files.run_folder import claim_run
from eeg2fmri_dist.inference.model_file import ModelCard, save_model
from eeg2fmri_dist.inference.weights import STATE, WEIGHTS, training_file
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs
from eeg2fmri_dist.training.batches.split_data import SplitData
from eeg2fmri_dist.training.checkpoint import Checkpoints
from eeg2fmri_dist.training.distributed.session import Session
from eeg2fmri_dist.training.initial_model import training_objective
from eeg2fmri_dist.training.monitoring.monitor import Monitor
from eeg2fmri_dist.training.progress import Progress
from eeg2fmri_dist.training.store_facts import store_regions
from eeg2fmri_dist.training.validation import Validator


@contextmanager
def recorded_run(config: TrainConfig, session: Session) -> Iterator[Monitor]:
    """Claim the run folder and log into it.

    Enter it late: what cannot be started must leave the folder free.

    Parameters
    ----------
    config : TrainConfig
        What was asked for, before anything was settled.
    session : Session
        This process among the others.

    Yields
    ------
    Monitor
        Started; it is closed in the end.
    """
    if session.ranks.is_first:
        claim_run(config, fingerprint_inputs(config))
    ranks, device = session.ranks, session.device
    monitor = Monitor(config.output, config.monitor, ranks, device, total_steps=1, total_epochs=1)
    monitor.start(0)
    try:
        yield monitor
    finally:
        monitor.close()


@dataclass(frozen=True)
class OneEpoch:
    """The one epoch of such a model; its methods are collective.

    Attributes
    ----------
    config : TrainConfig
        What was asked for.
    store : Store
        What it was made from.
    data : SplitData
        Of the split.
    model : nn.Module
        Complete.
    session : Session
        This process among the others.
    """

    config: TrainConfig
    store: Store
    data: SplitData
    model: nn.Module
    session: Session

    def score(self, monitor: Monitor, also: dict[str, float]) -> Progress:
        """Score validation subjects, as of any other model, and log it.

        Parameters
        ----------
        monitor : Monitor
            Started.
        also : dict of str to float
            Logged beside the scores.

        Raises
        ------
        StopAskedError
            If a rank was asked to stop.
        """
        config, data = self.config, self.data
        objective = training_objective(config, self.model, self.store.layout.mask)
        validator = Validator(
            data.train,
            data.validation,
            store_regions(self.store),
            config.optimization,
            self.session,
        )
        scores = validator.score(objective.to(self.session.device).eval())
        logged = scores.means | also
        monitor.pictures(1, validator.example)
        monitor.epoch(1, 1, logged)
        monitor.hparams(config.model_dump(mode="json"), logged)
        return Progress(step=1, validated_epoch=1, best_score=scores.selection)

    def save(self, card: ModelCard, progress: Progress, also: Mapping[str, Tensor]) -> None:
        """Write the one checkpoint.

        Parameters
        ----------
        card : ModelCard
            Of the model.
        progress : Progress
            Of `score`.
        also : mapping of str to Tensor
            What else is known of how the model was made.
        """
        from safetensors.torch import save_file

        card, scaling = replace(card, epoch=1, step=1), self.data.scaling
        weights, mask = self.model.state_dict(), self.store.layout.mask
        state = {"step": 1, "progress": asdict(progress)}
        files: dict[str, Callable[[Path], None]] = {
            WEIGHTS: lambda path: save_model(path, weights, card, scaling, mask),
            training_file(0, 1): lambda path: save_file(dict(also), path),
            STATE: lambda path: write_json(path, state),
        }
        folder, keep = self.config.output / "checkpoints", self.config.checkpoints.keep
        ranks = self.session.ranks
        checkpoints = Checkpoints(folder, keep, asynchronous=False, ranks=ranks)
        checkpoints.save_files(1, files if ranks.is_first else {}, is_best=True)
