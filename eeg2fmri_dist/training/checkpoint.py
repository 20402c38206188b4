"""Checkpoints that are whole or not there, and the choice of the one to load.

``checkpoints/step-00000120/`` holds DeepSpeed's files (`engine/`), each rank's random state, the
state of the loop, the weights as ``model.safetensors`` and, written last, a manifest with the size
and SHA-256 of every file. The folder gets its name by one rename, after every file was verified.
``latest`` and ``best`` are text files that name a folder.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.files import flush_to_disk, write_json, write_text
from eeg2fmri_dist.ranks import Ranks
from eeg2fmri_dist.training.manifest import WEIGHTS, find_newest, read_pointer, seal

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

logger = logging.getLogger(__name__)

_ENGINE, _STATE = "engine", "state.json"


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : Path
        ``checkpoints`` of the run folder.
    keep : int
        Newest ones kept; the best is kept besides.
    ranks : Ranks
        This process among the others.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks):
        self.folder, self.keep, self.ranks = folder, keep, ranks

    def save(
        self,
        engine: DeepSpeedEngine,
        step: int,
        state: dict[str, Any],
        write_weights: Callable[[Path], None],
        *,
        is_best: bool,
    ) -> None:
        """Save on all ranks together (collective).

        Parameters
        ----------
        engine : DeepSpeedEngine
            Weights, optimiser, schedule.
        step : int
            Optimiser steps done.
        state : dict
            What else the next step depends on; JSON values.
        write_weights : callable
            Writes the weights to a path in a form that needs no DeepSpeed (called on rank 0).
        is_best : bool
            Whether `best` names this checkpoint from now on.
        """
        name = f"step-{step:08d}"
        part = self.folder / f".{name}.part"
        if self.ranks.is_first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        _barrier()
        engine.save_checkpoint(str(part), tag=_ENGINE, save_latest=False)
        torch.save(_random_state(), part / f"rng-{self.ranks.rank}.pt")
        _barrier()
        if self.ranks.is_first:
            write_json(part / _STATE, state | {"step": step, "world_size": self.ranks.world_size})
            write_weights(part / WEIGHTS)
            seal(part)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            part.rename(self.folder / name)
            flush_to_disk(self.folder)
            write_text(self.folder / "latest", name)
            if is_best:
                write_text(self.folder / "best", name)
            self._drop_old()
        _barrier()

    def load_newest(self, engine: DeepSpeedEngine) -> dict[str, Any] | None:
        """Load the newest checkpoint that is whole; None if there is none (collective).

        Raises
        ------
        CheckpointError
            If it was saved by another number of ranks.
        """
        name = _broadcast(find_newest(self.folder) if self.ranks.is_first else None)
        if name is None:
            return None
        chosen = self.folder / name
        state = json.loads((chosen / _STATE).read_text())
        if state["world_size"] != self.ranks.world_size:
            raise CheckpointError(
                f"saved by {state['world_size']} ranks, loaded by {self.ranks.world_size}",
                where=chosen,
                remedy=f"start {state['world_size']} ranks, or begin a new run folder",
            )
        try:
            engine.load_checkpoint(str(chosen), tag=_ENGINE)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"does not fit the model ({str(error).splitlines()[0]})",
                where=chosen,
                remedy="train in a new run folder (output=...)",
            ) from error
        _restore_random_state(torch.load(chosen / f"rng-{self.ranks.rank}.pt", weights_only=True))
        logger.info("resumed from %s", chosen)
        return state

    def _drop_old(self) -> None:
        best = read_pointer(self.folder, "best")
        names = sorted(path.name for path in self.folder.glob("step-*"))
        for name in names[: -self.keep]:
            if name != best:
                shutil.rmtree(self.folder / name)


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _barrier() -> None:
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def _broadcast(value: Any) -> Any:
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
