"""Train one model by the suite's engine and by plain PyTorch DDP; print how the weights differ.

Run by test_engine.py on one or two ranks.
"""

import copy
import json
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from eeg2fmri_dist.config.model import CaeConfig
from eeg2fmri_dist.config.train import EngineConfig, OptimizationConfig, TrainConfig
from eeg2fmri_dist.models.cae import ConvolutionalAutoencoder
from eeg2fmri_dist.training.averaging import ScoredModel
from eeg2fmri_dist.training.distributed.engine import (
    make_schedule,
    start_engine,
    start_process_group,
    take_step,
)
from eeg2fmri_dist.training.distributed.ranks import discover_ranks
from eeg2fmri_dist.training.initial_model import training_objective

GRID = (12, 12, 8)
STEPS = 20
BATCH = 4


def make_config(engine, **optimization):
    return TrainConfig(
        store="unused",
        output="unused",
        model=CaeConfig(d_token=8, widths=(8, 16)),
        optimization=OptimizationConfig(
            batch_size=BATCH,
            learning_rate=1e-3,
            **optimization,
        ),
        engine=EngineConfig(**engine),
    )


def fresh_objective(config):
    torch.manual_seed(3)
    model = ConvolutionalAutoencoder(GRID, config.model)
    return training_objective(config, model, np.ones(GRID, dtype=bool))


def batches(rank, world_size):
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        volumes = torch.randn(BATCH, 1, *GRID, generator=generator)
        yield {"bold": volumes[rank::world_size]}


def train_plain(config, ranks, device):
    objective = fresh_objective(config).to(device)
    model = DistributedDataParallel(objective)
    optimizer = torch.optim.Adam(objective.parameters(), lr=config.optimization.learning_rate)
    schedule = make_schedule(optimizer, config.optimization, STEPS)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.engine.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    for batch in batches(ranks.rank, ranks.world_size):
        optimizer.zero_grad()
        for micro in micro_batches(batch, config, device):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = model(micro, 1.0) / config.engine.gradient_accumulation
            scaler.scale(loss).backward()
        if config.optimization.gradient_clipping:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(
                objective.parameters(), config.optimization.gradient_clipping
            )
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    return objective


def train_engine(config, ranks, device):
    objective = fresh_objective(config).to(device)
    plain = copy.deepcopy(objective)
    engine = start_engine(objective, config, ranks.world_size, STEPS)
    for batch in batches(ranks.rank, ranks.world_size):
        *first, last = micro_batches(batch, config, device)
        for micro in first:
            engine.backward(engine(micro, 1.0))
            engine.step()
        engine.backward(engine(last, 1.0))
        take_step(engine, config.optimization.gradient_clipping)
    return ScoredModel(engine, plain, None).current()


def micro_batches(batch, config, device):
    for volumes in batch["bold"].chunk(config.engine.gradient_accumulation):
        yield {"bold": volumes.to(device)}


def difference(one, other):
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    squared = sum(float((a - b).detach().double().square().sum()) for a, b in pairs)
    size = sum(float(a.detach().double().square().sum()) for a, _ in pairs)
    return (squared / size) ** 0.5


def cases():
    """Yield (name, engine section, optimization section)."""
    for stage in (3, 0, 1, 2):  # first: stage 3 changes torch only the first time
        for precision in ("fp32", "bf16"):
            yield f"{stage}-{precision}", {"precision": precision}, {}
        plain = {"precision": "fp32"}
        yield f"{stage}-fp32-clipped", plain, {"gradient_clipping": 0.05}
        yield f"{stage}-fp32-accumulated", plain | {"gradient_accumulation": 2}, {}
        yield f"{stage}-fp32-recomputed", plain | {"activation_checkpointing": True}, {}
        yield f"{stage}-fp32-channels-last", plain | {"channels_last": True}, {}
        if stage:
            yield f"{stage}-fp32-offloaded", plain | {"offload_optimizer": True}, {}
    for stage in (3, 0, 1, 2):  # last: DeepSpeed remembers the loss scale from engine to engine
        yield f"{stage}-fp16", {"precision": "fp16"}, {}
        yield f"{stage}-fp16-clipped", {"precision": "fp16"}, {"gradient_clipping": 0.05}


def main():
    ranks = discover_ranks()
    torch.set_num_threads(1)
    device = start_process_group(ranks)
    found = {}
    chosen = sys.argv[1:]
    for name, engine, optimization in cases():
        if not chosen or name in chosen:
            config = make_config(engine | {"zero_stage": int(name[0])}, **optimization)
            found[name] = difference(
                train_plain(config, ranks, device), train_engine(config, ranks, device)
            )
    if ranks.is_first:
        print("RESULT " + json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
