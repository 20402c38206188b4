"""DeepSpeed's config, derived from ours in one place."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch

from eeg2fmri_dist.config.train import EngineConfig, TrainConfig
from eeg2fmri_dist.errors import ConfigError

_NEVER = 10**9
# 24 MB, about DistributedDataParallel's. DeepSpeed makes the bucket anew in each step, and glibc
# hands out what is over 32 MB as fresh pages: their faults were half of what stages 1 and 2 cost.
_BUCKET_NUMBERS = 6_000_000
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
    engine, optimization = config.engine, config.optimization
    stage = effective_zero_stage(engine, world_size)
    micro_batch = max(1, optimization.batch_size // (world_size * engine.gradient_accumulation))
    derived: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": engine.gradient_accumulation,
        # Without ZeRO, `take_step` clips by the norm that it needs anyway.
        "gradient_clipping": optimization.gradient_clipping if stage else 0.0,
        "zero_optimization": _zero_section(engine, world_size),
        "steps_per_print": _NEVER,
        # The client's torch optimizer is the one that can be compared with plain PyTorch.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(effective_precision(engine))
    if dtype is not None:
        derived["torch_autocast"] = {
            "enabled": True,
            "dtype": dtype,
            "lower_precision_safe_modules": [],
        }
    return _merge(derived, config.deepspeed)


class ReadConfig(dict[str, Any]):
    """DeepSpeed dictionary that remembers what it was asked for, also through copies.

    DeepSpeed passes over top-level names that it does not know, a misspelt one among them.

    Attributes
    ----------
    asked : set of str
        Names that were looked for.
    """

    def __init__(self, content: dict[str, Any]):
        super().__init__(content)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name."""
        self.asked.add(name)
        return super().get(name, default)

    def refuse_unknown(self) -> None:
        """Raise `ConfigError` for a name that DeepSpeed, having read, never looked for."""
        for name in self:
            if name not in self.asked:
                alike = difflib.get_close_matches(name, self.asked, n=1)
                hint = f"; did you mean {alike[0]}?" if alike else ""
                raise ConfigError(
                    f"DeepSpeed has no setting {name!r}{hint}",
                    where="deepspeed",
                    remedy="correct the `deepspeed:` mapping; its names are in DeepSpeed's "
                    "documentation of its configuration JSON",
                )


def effective_zero_stage(engine: EngineConfig, world_size: int) -> int:
    """Return the ZeRO stage in use: on one rank there is nothing to shard, only to offload."""
    alone = world_size == 1 and not (engine.offload_optimizer or engine.offload_parameters)
    return 0 if alone else engine.zero_stage


def effective_precision(engine: EngineConfig) -> str:
    """Return the precision in use: ``auto`` avoids bf16 where it would be emulated."""
    if engine.precision != "auto":
        return engine.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _CPU_BF16_FLAGS & _cpu_flags() else "fp32"


def compute_dtype(engine: EngineConfig) -> torch.dtype:
    """Return what matrix products and convolutions compute in."""
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return dtypes[effective_precision(engine)]


def _zero_section(engine: EngineConfig, world_size: int) -> dict[str, Any]:
    stage = effective_zero_stage(engine, world_size)
    section: dict[str, Any] = {
        "stage": stage,
        # Stage 1 keeps all gradients anyway: copying each into a buffer as it comes only costs.
        "contiguous_gradients": stage != 1,
        "reduce_bucket_size": _BUCKET_NUMBERS,
        "allgather_bucket_size": _BUCKET_NUMBERS,
        # DeepSpeed's own linear layer of stage 3 rounds weight gradients to bf16.
        "memory_efficient_linear": False,
    }
    if engine.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if engine.offload_parameters:
        section["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return section


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
