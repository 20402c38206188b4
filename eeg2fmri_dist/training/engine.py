"""DeepSpeed: its config derived from ours, its engine around a module."""

from __future__ import annotations

import datetime
import logging
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eeg2fmri_dist.config.train import OptimisationConfig, TrainConfig
from eeg2fmri_dist.ranks import Ranks

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

logger = logging.getLogger(__name__)

_COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=10)
_NEVER = 10**9
_CPU_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def derive_deepspeed_config(config: TrainConfig, world_size: int) -> dict[str, Any]:
    """Return the DeepSpeed config of a training; the only place that writes DeepSpeed keys.

    With these defaults ZeRO 0, 1 and 2 give the weights of DistributedDataParallel with the same
    precision bit for bit: gradients are reduced in fp32 (`lower_precision_safe_modules` empty).

    Parameters
    ----------
    config : TrainConfig
        Its `deepspeed` mapping is merged over the result.
    world_size : int
        Number of ranks.
    """
    optimisation = config.optimisation
    micro_batch = max(
        1, optimisation.batch_size // (world_size * optimisation.gradient_accumulation)
    )
    derived: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": optimisation.gradient_accumulation,
        "gradient_clipping": optimisation.gradient_clipping,
        "zero_optimization": {"stage": effective_zero_stage(optimisation, world_size)},
        "steps_per_print": _NEVER,
        # The client's torch optimiser is the one that can be compared with plain PyTorch.
        "zero_allow_untested_optimizer": True,
    }
    if effective_precision(optimisation) == "bf16":
        derived["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    return _merge(derived, config.deepspeed)


def effective_zero_stage(optimisation: OptimisationConfig, world_size: int) -> int:
    """Return the ZeRO stage in use: on one rank there is nothing to shard."""
    return optimisation.zero_stage if world_size > 1 else 0


def effective_precision(optimisation: OptimisationConfig) -> str:
    """Return the precision in use, ``bf16`` or ``fp32``: emulated bf16 is far slower than fp32."""
    if optimisation.precision != "auto":
        return optimisation.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _CPU_BF16_FLAGS & _cpu_flags() else "fp32"


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def start_process_group(ranks: Ranks) -> torch.device:
    """Join the other ranks; return this rank's device.

    Parameters
    ----------
    ranks : Ranks
        Already written into the environment by `discover_ranks`.
    """
    deepspeed = _import_deepspeed()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank)
    deepspeed.init_distributed(
        dist_backend="nccl" if on_gpu else "gloo",
        auto_mpi_discovery=False,
        timeout=_COLLECTIVE_TIMEOUT,
        verbose=False,
    )
    return torch.device("cuda", ranks.local_rank) if on_gpu else torch.device("cpu")


def start_engine(
    module: torch.nn.Module, config: TrainConfig, world_size: int, total_steps: int
) -> DeepSpeedEngine:
    """Wrap a module (batch -> loss) in a DeepSpeed engine with Adam and its schedule.

    Parameters
    ----------
    module : torch.nn.Module
        Its trainable parameters are optimised.
    config : TrainConfig
        Optimisation, precision, ZeRO stage.
    world_size : int
        Number of ranks.
    total_steps : int
        Optimiser steps of the whole training (for the schedule).
    """
    optimisation = config.optimisation
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser_class = torch.optim.AdamW if optimisation.weight_decay else torch.optim.Adam
    optimiser = optimiser_class(
        parameters, lr=optimisation.learning_rate, weight_decay=optimisation.weight_decay
    )
    engine, *_ = _import_deepspeed().initialize(
        model=module,
        model_parameters=parameters,
        optimizer=optimiser,
        lr_scheduler=make_schedule(optimiser, optimisation, total_steps),
        config=derive_deepspeed_config(config, world_size),
    )
    if optimisation.zero_stage and world_size == 1:
        logger.info(
            "one rank: nothing to shard, ZeRO stage 0 instead of %d", optimisation.zero_stage
        )
    return engine


def make_schedule(
    optimiser: torch.optim.Optimizer, optimisation: OptimisationConfig, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the learning-rate schedule, counted in optimiser steps."""
    warmup = max(1, round(optimisation.warmup_fraction * total_steps))

    def factor(step: int) -> float:
        if optimisation.schedule == "constant":
            return 1.0
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Printed on every reduction by this pair of torch and DeepSpeed versions.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if deepspeed.get_accelerator().device_name() == "cpu":
        # Otherwise init_distributed compiles this operator, and a machine may have no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
