"""DeepSpeed's engine around a module: started, and its optimizer's state in and out, whole.

A state is *whole* when it does not depend on the number of ranks or the ZeRO stage: one tensor per
parameter, of the parameter's shape.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eeg2fmri_dist.config.train import EngineConfig, OptimizationConfig, TrainConfig
from eeg2fmri_dist.errors import ConfigError, LaunchError
from eeg2fmri_dist.training.distributed.allocator import keep_freed_memory
from eeg2fmri_dist.training.distributed.deepspeed_config import (
    ReadConfig,
    derive_deepspeed_config,
    effective_zero_stage,
)
from eeg2fmri_dist.training.distributed.preemption import StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks
from eeg2fmri_dist.training.distributed.rendezvous import join_ranks
from eeg2fmri_dist.training.distributed.sharding import (
    gather_whole,
    held_part,
    is_sharded,
    local_part,
    whole_shape,
)

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

logger = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")


def start_process_group(ranks: Ranks, stop: StopRequest | None = None) -> torch.device:
    """Join the other ranks; return this rank's device.

    Parameters
    ----------
    ranks : Ranks
        Already written into the environment by `discover_ranks`.
    stop : StopRequest or None
        Heeded while other ranks are waited for.

    Raises
    ------
    StopAskedError
        If a signal came before all ranks were there.
    LaunchError
        If a rank did not come.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", ranks.local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    join_ranks(ranks, "nccl" if on_gpu else "gloo", stop)
    _import_deepspeed().init_distributed(auto_mpi_discovery=False, verbose=False)
    return device


def leave_process_group() -> None:
    """Leave the other ranks; DeepSpeed forgets its groups, so another training may follow here."""
    deepspeed = _import_deepspeed()
    if deepspeed.comm.is_initialized():
        deepspeed.comm.destroy_process_group()


def start_engine(
    module: nn.Module, config: TrainConfig, world_size: int, total_steps: int
) -> DeepSpeedEngine:
    """Wrap a module (batch -> loss) in a DeepSpeed engine with Adam and its schedule.

    Parameters
    ----------
    module : nn.Module
        Its trainable parameters are optimized.
    config : TrainConfig
        Optimization, precision, ZeRO stage.
    world_size : int
        Number of ranks.
    total_steps : int
        Optimizer steps of the whole training (for the schedule).

    Raises
    ------
    ConfigError
        If DeepSpeed cannot use what `config.deepspeed` adds.
    LaunchError
        If `engine.compile` is asked for and there is no C++ compiler.
    """
    optimization = config.optimization
    _prepare(module, config.engine)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer_class = torch.optim.AdamW if optimization.weight_decay else torch.optim.Adam
    optimizer = optimizer_class(
        parameters,
        lr=optimization.learning_rate,
        weight_decay=optimization.weight_decay,
        fused=config.engine.fused_adam or None,
    )
    deepspeed_config = ReadConfig(derive_deepspeed_config(config, world_size))
    with _explaining_experts(config):
        engine, *_ = _import_deepspeed().initialize(
            model=module,
            model_parameters=parameters,
            optimizer=optimizer,
            lr_scheduler=make_schedule(optimizer, optimization, total_steps),
            config=deepspeed_config,
        )
    deepspeed_config.refuse_unknown()
    if world_size == 1 and not engine.zero_optimization():
        engine.enable_backward_allreduce = False  # it would copy every gradient twice for nothing
    wanted, used = config.engine.zero_stage, effective_zero_stage(config.engine, world_size)
    if wanted != used:
        logger.info("one rank: nothing to shard, ZeRO stage %d instead of %d", used, wanted)
    return engine


@contextlib.contextmanager
def _explaining_experts(config: TrainConfig) -> Iterator[None]:
    """DeepSpeed checks its dictionary with assertions and in use; what we derive is right."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        if not config.deepspeed:
            raise
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"DeepSpeed cannot use its config ({type(error).__name__}: {reason})",
            where="deepspeed",
            remedy="correct the `deepspeed:` mapping; --print-config shows what DeepSpeed is told",
        ) from error


def make_schedule(
    optimizer: torch.optim.Optimizer, optimization: OptimizationConfig, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the learning-rate schedule, counted in optimizer steps."""
    warmup = max(1, round(optimization.warmup_fraction * total_steps))
    shapes: dict[str, Callable[[float], float]] = {
        "linear": lambda progress: 1 - progress,
        "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    }

    def factor(step: int) -> float:
        if optimization.schedule == "constant":
            return 1.0
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        shape = shapes[optimization.schedule](progress)
        return optimization.final_fraction + (1 - optimization.final_fraction) * shape

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def trained_parameters(engine: DeepSpeedEngine) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (name, parameter) of all that is optimized, in an order that ranks share."""
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def gather_moment(engine: DeepSpeedEngine, parameter: nn.Parameter, key: str) -> Tensor:
    """Return one of Adam's `MOMENTS` of a parameter, whole (collective under ZeRO)."""
    from deepspeed import utils

    if not any(_torch_optimizer(engine).state.values()):
        # The loss scale of fp16 has skipped every step so far.
        return torch.zeros(whole_shape(parameter), device=parameter.device)
    if is_sharded(parameter):
        part = utils.safe_get_local_optimizer_state(parameter, key)
        return gather_whole(parameter, part)
    if engine.zero_optimization():
        engine.optimizer._lazy_init_hp_params_optimizer_state()
        return utils.safe_get_full_optimizer_state(parameter, key)
    state = engine.optimizer.state.get(parameter)
    # A parameter that no loss has reached yet has no state.
    return state[key] if state else torch.zeros_like(parameter)


def set_moments(engine: DeepSpeedEngine, moment: Callable[[str, str], Tensor], steps: int) -> None:
    """Give Adam the state that it had after `steps` steps.

    Parameters
    ----------
    engine : DeepSpeedEngine
        Fresh: no step taken yet.
    moment : callable
        (parameter name, key of `MOMENTS`) -> whole tensor.
    steps : int
        Steps that Adam has taken (its bias correction depends on them).
    """
    from deepspeed import utils

    zero_moments(engine, steps)
    optimizer = _torch_optimizer(engine)
    for name, parameter in trained_parameters(engine):
        for key in MOMENTS:
            value = moment(name, key)
            if is_sharded(parameter):
                part = local_part(parameter, value.to(held_part(parameter).device))
                utils.safe_set_local_optimizer_state(parameter, part, key)
            elif engine.zero_optimization():
                utils.safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
            else:
                optimizer.state[parameter][key].copy_(value)


def zero_moments(engine: DeepSpeedEngine, steps: int = 0) -> None:
    """Give Adam a state of zeros, which it has none of before its first step."""
    optimizer = _torch_optimizer(engine)
    for flat in _flat_parameters(engine):
        optimizer.state[flat] = {key: torch.zeros_like(flat) for key in MOMENTS}
        optimizer.state[flat]["step"] = torch.tensor(float(steps))
    if effective_stage(engine) in (1, 2):
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def adam_steps(engine: DeepSpeedEngine) -> int:
    """Return the number of steps that Adam has taken (skipped ones do not count)."""
    optimizer = _torch_optimizer(engine)
    states = [optimizer.state[flat] for flat in _flat_parameters(engine)]
    return max((int(state["step"]) for state in states if state), default=0)


def effective_stage(engine: DeepSpeedEngine) -> int:
    """Return the ZeRO stage that an engine runs."""
    return engine.zero_optimization_stage() if engine.zero_optimization() else 0


def loss_scaler(engine: DeepSpeedEngine) -> torch.amp.GradScaler | None:
    """Return the scaler of fp16 losses; None in other precisions."""
    if engine.torch_autocast_z0_gradscaler is not None:
        return engine.torch_autocast_z0_gradscaler
    return getattr(engine.optimizer, "torch_autocast_gradscaler", None)


def take_step(engine: DeepSpeedEngine, gradient_clipping: float) -> float:
    """Change the weights.

    Parameters
    ----------
    engine : DeepSpeedEngine
        After the last backward pass of a step.
    gradient_clipping : float
        Largest norm of the gradient; 0 = no limit.

    Returns
    -------
    float
        Norm of the gradient over all ranks, before clipping.
    """
    if engine.zero_optimization():
        return _take_sharded_step(engine, gradient_clipping)
    scaler = loss_scaler(engine)
    if scaler is not None:
        scaler.unscale_(engine.optimizer)
    parameters = [parameter for _, parameter in trained_parameters(engine)]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if gradient_clipping:
        torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clipping, norm)
    engine.step()
    return float(norm)


def _take_sharded_step(engine: DeepSpeedEngine, gradient_clipping: float) -> float:
    """DeepSpeed clips gradients that still carry fp16's loss scale: the limit gets it, too."""
    scaler = loss_scaler(engine)
    scale = scaler.get_scale() if scaler is not None else 1.0
    if gradient_clipping:
        engine.optimizer.clip_grad = gradient_clipping * scale
    engine.step()
    if scaler is not None and engine.optimizer.overflow:
        _lower_scale(scaler)
    return float(engine.get_global_grad_norm() or 0.0) / scale


def _lower_scale(scaler: torch.amp.GradScaler) -> None:
    """Do what DeepSpeed leaves out: under ZeRO it returns from an overflow before the update."""
    state = scaler.state_dict()
    state |= {"scale": state["scale"] * state["backoff_factor"], "_growth_tracker": 0}
    scaler.load_state_dict(state)


def _prepare(module: nn.Module, engine: EngineConfig) -> None:
    if engine.activation_checkpointing:
        from eeg2fmri_dist.training.distributed.activation_memory import checkpoint_activations

        checkpoint_activations(module)
    if engine.channels_last:
        from eeg2fmri_dist.training.distributed.activation_memory import use_channels_last

        use_channels_last(module)
    if engine.compile:
        if not torch.cuda.is_available() and shutil.which(os.environ.get("CXX", "g++")) is None:
            raise LaunchError(
                "engine.compile needs a C++ compiler on a CPU, and there is no g++",
                remedy="install g++, set CXX, or set engine.compile=false",
            )
        module.compile()


def _torch_optimizer(engine: DeepSpeedEngine) -> torch.optim.Optimizer:
    return engine.optimizer.optimizer if engine.zero_optimization() else engine.optimizer


def _flat_parameters(engine: DeepSpeedEngine) -> list[Tensor]:
    """What the torch optimizer inside the engine sees as its parameters."""
    stage = effective_stage(engine)
    if stage == 0:
        return [parameter for _, parameter in trained_parameters(engine)]
    if stage == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return list(engine.optimizer.single_partition_of_fp32_groups)


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
