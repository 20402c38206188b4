"""What a training would do: sizes, steps, memory and time, without doing it."""

from __future__ import annotations

import datetime
import math
import os
from pathlib import Path

import torch

from eeg2fmri_dist.config.model import (
    CaeConfig,
    EnsembleConfig,
    PrincipalComponentsConfig,
    RidgeConfig,
)
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.normalization import fit_scaling
from eeg2fmri_dist.data.sampler import BatchSampler
from eeg2fmri_dist.data.splits import PARTS, Split, make_split
from eeg2fmri_dist.data.window_index import training_windows
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.files.run_folder import load_run_config
from eeg2fmri_dist.inference.objectives import Batch, Objective
from eeg2fmri_dist.models.build import build_model, count_parameters
from eeg2fmri_dist.models.transformer import TransformerCNN
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.tokens import attach_tokens
from eeg2fmri_dist.training.distributed.activation_memory import checkpoint_activations
from eeg2fmri_dist.training.distributed.deepspeed_config import (
    compute_dtype,
    effective_precision,
    effective_zero_stage,
)
from eeg2fmri_dist.training.fitting.ensemble import ensemble_bytes, plan_ensemble
from eeg2fmri_dist.training.fitting.ridge import plan_closed_form, ridge_bytes
from eeg2fmri_dist.training.flops import count_step_flops, flop_utilization, measure_peak_flops
from eeg2fmri_dist.training.initial_model import training_objective
from eeg2fmri_dist.training.planning.memory_estimate import (
    MicroBatchMemory,
    Saving,
    Update,
    estimate_rank_memory,
    measure_model,
    simulate_micro_batches,
)
from eeg2fmri_dist.training.planning.timed_dry_run import Rehearsal, free_memory, rehearse
from eeg2fmri_dist.training.store_facts import store_sizes

_RANKS_SHOWN = (1, 2, 4, 8)
_STAGES = (0, 1, 2, 3)
_MIB = 2**20


def plan_training(config: TrainConfig) -> list[str]:
    """Return the lines of ``--dry-run``; measures a few steps, writes nothing."""
    if isinstance(config.model, RidgeConfig):
        return plan_closed_form(config)
    if isinstance(config.model, EnsembleConfig):
        return plan_ensemble(config)
    plan = TrainingPlan(config)
    return [
        f"{config.model.name}, {config.recipe} recipe, into {config.output}",
        *plan.data_lines(),
        *plan.size_lines(),
        *plan.memory_lines(),
        *plan.time_lines(),
    ]


def checkpoint_bytes(config: TrainConfig) -> int:
    """Return about how large a checkpoint will be."""
    if isinstance(config.model, RidgeConfig):
        return ridge_bytes(config)
    if isinstance(config.model, EnsembleConfig):
        return ensemble_bytes(config)
    return TrainingPlan(config).checkpoint_bytes()


class TrainingPlan:
    """A training's data and its model without numbers (meta device).

    Parameters
    ----------
    config : TrainConfig
        What would be trained.

    Attributes
    ----------
    objective : Objective
        On the meta device.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.store = Store(config.store)
        self.split: Split = make_split(self.store.recordings, config.split)
        self.precision = effective_precision(config.engine)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.device("meta"):
            self.objective = self._objective()
        lengths = [segment.stop - segment.start for segment in self.split.train]
        self.n_windows = len(training_windows(lengths, config.data.window, config.data.stride))
        optimization = config.optimization
        self._micro_batches: dict[int, MicroBatchMemory] = {}
        self.sampler = BatchSampler(self.n_windows, optimization.batch_size, optimization.seed)

    def data_lines(self) -> list[str]:
        """Recordings, windows and steps."""
        lines = []
        for part in PARTS:
            subjects = [
                self.store.recordings[segment.recording].subject
                for segment in self.split.part(part)
            ]
            lines.append(f"  {part}: {len(subjects)} recordings ({', '.join(subjects)})")
        steps, epochs = self.sampler.batches_per_epoch, self.config.optimization.epochs
        lines.append(
            f"  {self.n_windows} windows of {self.config.data.window} TRs, {steps} steps per "
            f"epoch, {steps * epochs} in all"
        )
        return lines

    def size_lines(self) -> list[str]:
        """Parameters, operations, size of a checkpoint."""
        flops = count_step_flops(self.objective, self.batch(1))
        return [
            f"  {count_parameters(self.objective):,} trained parameters",
            f"  {flops.total / 1e9:.3g} GFLOP per window (forward {flops.forward / 1e9:.3g}, "
            f"backward {flops.backward / 1e9:.3g})",
            f"  checkpoint: about {self.checkpoint_bytes() / _MIB:.0f} MiB, "
            f"{self.config.checkpoints.keep + 1} kept",
        ]

    def memory_lines(self) -> list[str]:
        """Memory per rank, by ZeRO stage and number of ranks."""
        ranks = sorted({*_RANKS_SHOWN, self.config.world_size or 1})
        stages = "".join(f"stage {stage:<6}" for stage in _STAGES)
        return [
            f"  memory per rank in training (MiB, {self.precision}): weights, gradients, Adam, "
            "the copy that is scored, activations",
            f"    ranks    activations  {stages}",
            *(self._memory_row(world_size) for world_size in ranks),
            f"  besides, on the host: Python and its libraries (0.6-0.8 GiB) and, where kept in "
            f"RAM, {self._volume_bytes() / _MIB:.0f} MiB of volumes",
        ]

    def time_lines(self) -> list[str]:
        """Time of a step and of the whole training, measured on this machine."""
        ranks = self.config.world_size or 1
        share, needed = self.windows_per_rank(ranks), self.rank_bytes(1, ranks)
        free = free_memory(self.device)
        if needed > free:
            return [
                f"  time: not measured, {needed / _MIB:.0f} MiB are needed and {free / _MIB:.0f} "
                "MiB are free here; run this on a compute node"
            ]
        torch.set_num_threads(self.config.threads or max(1, (os.cpu_count() or 1) // ranks))
        try:
            measured = self.rehearse(share)
        except (RuntimeError, MemoryError) as error:
            return [f"  time: not measured ({str(error).splitlines()[0]}); run on a compute node"]
        return self._time_lines(measured, share, ranks)

    def batch(self, n_windows: int) -> Batch:
        """Return a batch without numbers."""
        data, sizes = self.config.data, store_sizes(self.store, self.config.data.context)
        shapes: dict[str, tuple[int, ...]] = {
            "bold": (data.window, *sizes.grid),
            "eeg": (data.window + data.context, sizes.num_channels, sizes.num_frequencies),
        }
        if isinstance(self.objective.model, TransformerCNN):
            shapes["tokens"] = (data.window, self.objective.model.tokenizer.d_token)
        return {
            field: torch.empty(n_windows, *shapes[field], device="meta")
            for field in self.objective.fields
        }

    def windows_per_rank(self, world_size: int) -> int:
        """Windows of the largest micro-batch of a rank."""
        parts = world_size * self.config.engine.gradient_accumulation
        return math.ceil(min(self.config.optimization.batch_size, self.n_windows) / parts)

    def rank_bytes(self, zero_stage: int, world_size: int) -> int:
        """Estimate the memory of a rank in training."""
        return self._rank_memory(zero_stage, world_size)[1]

    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint: the model, Adam's moments, trained weights beside an average."""
        size = measure_model(self.objective)
        averaged = self.config.optimization.ema_decay is not None
        return size.frozen + size.trained * (4 if averaged else 3)

    def rehearse(self, n_windows: int) -> Rehearsal:
        """Time a few steps on the first training recording, with untrained weights."""
        # Either scale of the EEG takes the same time.
        data_config = self.config.data.model_copy(update={"cache": "ram", "eeg_scale": "log"})
        segments = self.split.train[:1]
        scaling = fit_scaling(self.store, segments, data_config)
        data = WindowData(self.store, segments, data_config, scaling)
        objective = self._objective()
        model = objective.model
        if isinstance(model, TransformerCNN) and not model.config.train_tokenizer:
            attach_tokens(model, data, None, self.device)
        return rehearse(objective.to(self.device), data, n_windows, self.device, self._autocast)

    @property
    def _autocast(self) -> torch.dtype | None:
        dtype = compute_dtype(self.config.engine)
        return None if dtype == torch.float32 else dtype

    @property
    def _update(self) -> Update:
        if self.config.engine.fused_adam:
            return "fused"
        return "foreach" if self.device.type == "cuda" else "loop"

    @property
    def _saving(self) -> Saving:
        if self.device.type == "cuda":
            return "elsewhere"
        return "beside" if self.config.checkpoints.asynchronous else "between"

    def _objective(self) -> Objective:
        config = self.config
        sizes = store_sizes(self.store, config.data.context, config.model)
        model = build_model(config.model, _tokenizer_config(config), sizes)
        return training_objective(config, model, self.store.layout.mask)

    def _volume_bytes(self) -> int:
        parts = (*self.split.train, *self.split.validation)
        return 4 * sum(s.stop - s.start for s in parts) * math.prod(self.store.layout.grid)

    def _micro_batch(self, world_size: int) -> MicroBatchMemory:
        windows = self.windows_per_rank(world_size)
        if windows not in self._micro_batches:
            engine = self.config.engine
            self._micro_batches[windows] = simulate_micro_batches(
                self.objective,
                self.batch(windows),
                device=self.device,
                autocast=self._autocast,
                micro_batches=engine.gradient_accumulation,
                prepare=checkpoint_activations if engine.activation_checkpointing else None,
            )
        return self._micro_batches[windows]

    def _rank_memory(self, zero_stage: int, world_size: int) -> tuple[int, int]:
        """Bytes of activations, and of all."""
        engine, micro_batch = self.config.engine, self._micro_batch(world_size)
        memory = estimate_rank_memory(
            measure_model(self.objective),
            micro_batch,
            zero_stage=effective_zero_stage(
                engine.model_copy(update={"zero_stage": zero_stage}), world_size
            ),
            world_size=world_size,
            averaged=self.config.optimization.ema_decay is not None,
            update=self._update,
            saving=self._saving,
        )
        return micro_batch.activations, memory.total

    def _memory_row(self, world_size: int) -> str:
        by_stage = [self._rank_memory(stage, world_size) for stage in _STAGES]
        totals = "".join(f"{total / _MIB:<12.0f}" for _, total in by_stage)
        return f"    {world_size:<9}{by_stage[0][0] / _MIB:<13.0f}{totals}"

    def _time_lines(self, measured: Rehearsal, share: int, ranks: int) -> list[str]:
        step_s = measured.predict_step_s(share, self.config.engine.gradient_accumulation)
        steps = self.sampler.batches_per_epoch * self.config.optimization.epochs
        whole = datetime.timedelta(seconds=round(step_s * steps))
        flops = count_step_flops(self.objective, self.batch(1)).total
        peak = measure_peak_flops(self.device, compute_dtype(self.config.engine))
        used = flop_utilization(flops * measured.windows, measured.step_s, peak)
        where = f"{self.device.type}, {torch.get_num_threads()} thread(s)"
        return [
            f"  time: {step_s:.3g} s per step of {ranks} rank(s), {whole} in all without "
            "validation and communication",
            f"    from steps of {measured.windows} windows on this machine ({where}): "
            f"{measured.windows / measured.step_s:.3g} windows/s, "
            f"{measured.reading_s / measured.step_s:.1%} reading, {used:.0%} of the peak of "
            f"{peak.flops_per_s / 1e9:.3g} GFLOP/s",
        ]


def _tokenizer_config(config: TrainConfig) -> CaeConfig | PrincipalComponentsConfig | None:
    if not isinstance(config.tokenizer, Path):
        return config.tokenizer
    model = load_run_config(config.tokenizer).model
    if not isinstance(model, CaeConfig):
        raise CheckpointError(
            f"the tokenizer does not fit: its model is {model.name}, here it is cae",
            where=config.tokenizer,
            remedy="name the run folder of a CAE as tokenizer",
        )
    return model
