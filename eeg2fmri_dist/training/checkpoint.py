"""Checkpoints that are whole or not there, written and read by any number of ranks.

``checkpoints/step-00000120/`` holds

- ``model.safetensors``: the model as it is scored and used, with its card;
- ``training-00000-of-00002.safetensors``: per rank that saved, whole tensors of its share of the
  parameters: Adam's moments and, where the model is a moving average, the trained weights;
- ``state.json``: the loop's state, the schedule, the loss scale;
- ``manifest.json``: size and SHA-256 of every file, written last.

Nothing in it depends on the ZeRO stage or the number of ranks, and it is as large as the state
itself. The random numbers of a step follow from seed, step and rank, so none are saved. The folder
gets its name by one rename, after all ranks have written and flushed their files. ``latest`` and
``best`` are text files that name a folder.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from eeg2fmri_dist.config.names.former_names import current_tensor
from eeg2fmri_dist.errors import CheckpointError, LaunchError
from eeg2fmri_dist.files.atomic import flush_to_disk, write_json, write_text
from eeg2fmri_dist.inference.weights import (
    STATE,
    WEIGHTS,
    FileRecord,
    find_newest,
    read_pointer,
    record_file,
    training_file,
    write_manifest,
)
from eeg2fmri_dist.models.shapes import describe_misfit
from eeg2fmri_dist.training.averaging import ScoredModel
from eeg2fmri_dist.training.distributed.collectives import from_first, share_objects, wait_for_all
from eeg2fmri_dist.training.distributed.engine import (
    MOMENTS,
    adam_steps,
    gather_moment,
    loss_scaler,
    set_moments,
    trained_parameters,
)
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.sharding import gather_whole, held_part, is_sharded

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

logger = logging.getLogger(__name__)

_TRAINED = "weight"
_STATE_KEYS = {"step", "sampler", "progress", "averaged", "adam_steps", "schedule", "loss_scaler"}


class SavedCheckpoint:
    """A checkpoint on disk, being loaded.

    Parameters
    ----------
    folder : Path
        Checked against its manifest already.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        absent = _STATE_KEYS - self.state.keys()
        if absent:
            raise self._misfit(f"its {STATE} has no {', '.join(sorted(absent))}")

    def load_weights(self, objective: nn.Module) -> None:
        """Give a module, not yet wrapped by an engine, the trained weights.

        Raises
        ------
        CheckpointError
            If they do not fit it.
        """
        self._check_fit(objective)
        with torch.no_grad():
            for name, parameter in _trained(objective):
                averaged = self.state["averaged"]
                parameter.copy_(self._tensor(name, _TRAINED) if averaged else self._scored(name))

    def load_training(self, engine: DeepSpeedEngine, scored: ScoredModel) -> None:
        """Give a fresh engine the state of optimizer, schedule and loss scale."""
        set_moments(engine, self._tensor, self.state["adam_steps"])
        engine.lr_scheduler.load_state_dict(self.state["schedule"])
        for group, rate in zip(
            engine.optimizer.param_groups, engine.lr_scheduler.get_last_lr(), strict=True
        ):
            group["lr"] = rate
        scaler = loss_scaler(engine)
        if scaler is not None and self.state["loss_scaler"]:
            scaler.load_state_dict(self.state["loss_scaler"])
        engine.global_steps = self.state["step"]
        if self.state["averaged"]:
            scored.restore_average(self._scored)

    def _check_fit(self, objective: nn.Module) -> None:
        """Compare names and shapes of everything that will be loaded, before anything is."""
        kinds = (*MOMENTS, _TRAINED) if self.state["averaged"] else MOMENTS
        wanted: dict[str, tuple[int, ...]] = {}
        for name, parameter in _trained(objective):
            keys = [_scored_name(name), *(f"{name}.{kind}" for kind in kinds)]
            wanted |= dict.fromkeys(keys, tuple(parameter.shape))
        stored = {}
        for key, (path, name) in self._places.items():
            if key in wanted:
                with safe_open(path, framework="pt") as file:
                    stored[key] = tuple(file.get_slice(name).get_shape())
        misfit = describe_misfit(stored, wanted)
        if misfit is not None:
            raise self._misfit(misfit)

    def _scored(self, name: str) -> Tensor:
        return self._read(_scored_name(name))

    def _tensor(self, name: str, kind: str) -> Tensor:
        return self._read(f"{name}.{kind}")

    def _read(self, key: str) -> Tensor:
        path, name = self._places[key]
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    @cached_property
    def _places(self) -> dict[str, tuple[Path, str]]:
        """File of each tensor, and its name there, which may be a former one."""
        places: dict[str, tuple[Path, str]] = {}
        for path in (self.folder / WEIGHTS, *sorted(self.folder.glob("training-*.safetensors"))):
            with safe_open(path, framework="pt") as file:
                places |= {current_tensor(name): (path, name) for name in list(file.keys())}
        return places

    def _misfit(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"does not fit the model ({why})",
            where=self.folder,
            remedy="train in a new run folder (output=...)",
        )


def _trained(objective: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def _scored_name(name: str) -> str:
    """Name in the file of the scored model, which knows no objective around it."""
    return name.removeprefix("model.")


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : Path
        ``checkpoints`` of the run folder.
    keep : int
        Newest ones kept; the best is kept besides.
    asynchronous : bool
        Write while training goes on, from a copy of the state.
    ranks : Ranks
        This process among the others.
    """

    def __init__(self, folder: Path, keep: int, asynchronous: bool, ranks: Ranks):
        self.folder, self.keep, self.ranks = folder, keep, ranks
        self.asynchronous = asynchronous
        self._writing: _Writing | None = None

    def open_newest(self) -> SavedCheckpoint | None:
        """Return the newest checkpoint that is whole; None if there is none (collective)."""
        name = from_first(find_newest(self.folder) if self.ranks.is_first else None)
        if name is None:
            return None
        logger.info("resumed from %s", self.folder / name)
        return SavedCheckpoint(self.folder / name)

    def save(
        self,
        engine: DeepSpeedEngine,
        scored: ScoredModel,
        state: dict[str, Any],
        write_model: Callable[[Path, dict[str, Tensor]], None],
        *,
        is_best: bool,
    ) -> None:
        """Save on all ranks together (collective).

        Parameters
        ----------
        engine : DeepSpeedEngine
            Optimizer, schedule, trained weights.
        scored : ScoredModel
            The model as it is scored and used.
        state : dict
            What else the next step depends on, `step` among it; JSON values.
        write_model : callable
            (path, state dict of the scored model) -> file that needs no DeepSpeed; called on rank
            0, in a thread.
        is_best : bool
            Whether `best` names this checkpoint from now on.

        Raises
        ------
        LaunchError
            If a rank could not write, such as on a full disk.
        """
        self.commit()
        state = state | _engine_state(engine) | {"averaged": scored.is_average}
        model = scored.current().model.state_dict()
        files: dict[str, Callable[[Path], None]] = {}
        share = _own_share(engine, self.ranks, with_weights=scored.is_average)
        own_name = training_file(self.ranks.rank, self.ranks.world_size)
        files[own_name] = lambda path: save_file(share, path)
        if self.ranks.is_first:
            model = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
            files[WEIGHTS] = lambda path: write_model(path, model)
            files[STATE] = lambda path: write_json(path, state)
        self.save_files(state["step"], files, is_best=is_best)

    def save_files(
        self, step: int, files: dict[str, Callable[[Path], None]], *, is_best: bool
    ) -> None:
        """Save a checkpoint file by file on all ranks together (collective).

        Parameters
        ----------
        step : int
            Names the checkpoint.
        files : dict
            File name -> what writes it, of this rank; called in a thread.
        is_best : bool
            Whether `best` names this checkpoint from now on.

        Raises
        ------
        LaunchError
            If a rank could not write, such as on a full disk.
        """
        self.commit()
        part = self.folder / f".step-{step:08d}.part"
        if self.ranks.is_first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        wait_for_all()
        self._writing = _Writing(part, is_best, files)
        if not self.asynchronous:
            self.commit()

    @property
    def has_written(self) -> bool:
        """True unless this rank is still writing."""
        return self._writing is None or not self._writing.thread.is_alive()

    def commit_when(self, all_have_written: bool) -> None:
        """Give the pending checkpoint its name if all ranks have written (agreed before)."""
        if self._writing is not None and all_have_written:
            self.commit()

    def commit(self) -> None:
        """Wait for all files of the pending checkpoint, then name it (collective).

        Raises
        ------
        LaunchError
            As `save`; the checkpoints that were there stay.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        writing.thread.join()
        outcomes = share_objects(writing.outcome())
        failed = [rank for rank, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        if failed:
            if self.ranks.is_first:
                shutil.rmtree(writing.part, ignore_errors=True)
            raise LaunchError(
                f"rank {failed[0]} could not write its checkpoint ({outcomes[failed[0]]})",
                where=self.folder,
                remedy="put that right and run the same command again; it continues from the "
                "checkpoint before",
            )
        if self.ranks.is_first:
            self._name(writing, {name: record for own in outcomes for name, record in own.items()})
        wait_for_all()

    def _name(self, writing: _Writing, records: dict[str, FileRecord]) -> None:
        name = writing.part.stem.removeprefix(".")
        write_manifest(writing.part, records)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        writing.part.rename(self.folder / name)
        flush_to_disk(self.folder)
        write_text(self.folder / "latest", name)
        if writing.is_best:
            write_text(self.folder / "best", name)
        self._drop_old()

    def _drop_old(self) -> None:
        best = read_pointer(self.folder, "best")
        names = sorted(path.name for path in self.folder.glob("step-*"))
        for name in names[: -self.keep]:
            if name != best:
                shutil.rmtree(self.folder / name)


@dataclass
class _Writing:
    """Files of one rank on their way to the disk, in a thread."""

    part: Path
    is_best: bool
    files: dict[str, Callable[[Path], None]]
    records: dict[str, FileRecord] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._write, name="checkpoint", daemon=True)
        self.thread.start()

    def outcome(self) -> dict[str, FileRecord] | str:
        """Records of the files, or why there are none."""
        return self.records if self.error is None else self.error

    def _write(self) -> None:
        try:
            for name, write in self.files.items():
                write(self.part / name)
                self.records[name] = record_file(self.part / name)
        except (OSError, SafetensorError) as error:
            self.error = str(error)
        except Exception as error:
            logger.debug("writing a checkpoint", exc_info=True)
            self.error = f"{type(error).__name__}: {error}"


def _own_share(engine: DeepSpeedEngine, ranks: Ranks, *, with_weights: bool) -> dict[str, Tensor]:
    """Copy to the host what this rank writes: every world_size-th parameter (collective)."""
    share = {}
    for number, (name, kind, tensor) in enumerate(_gathered(engine, with_weights=with_weights)):
        if number % ranks.world_size == ranks.rank:
            share[f"{name}.{kind}"] = tensor.detach().cpu().clone().contiguous()
    return share


def _gathered(engine: DeepSpeedEngine, *, with_weights: bool) -> Iterator[tuple[str, str, Tensor]]:
    for name, parameter in trained_parameters(engine):
        for key in MOMENTS:
            yield name, key, gather_moment(engine, parameter, key)
        if with_weights:
            part = held_part(parameter)
            whole = gather_whole(parameter, part) if is_sharded(parameter) else part
            yield name, _TRAINED, whole


def _engine_state(engine: DeepSpeedEngine) -> dict[str, Any]:
    scaler = loss_scaler(engine)
    return {
        "adam_steps": adam_steps(engine),
        "schedule": engine.lr_scheduler.state_dict(),  # its lambda is not kept, only its place
        "loss_scaler": None if scaler is None else scaler.state_dict(),
    }
