"""Time steps by the engine and by plain PyTorch in turn: step_times.py MODEL STAGE [KEY=VALUE]."""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from eeg2fmri_dist.training.distributed.deepspeed_config import effective_precision
from eeg2fmri_dist.training.distributed.engine import start_engine, start_process_group, take_step
from eeg2fmri_dist.training.distributed.ranks import discover_ranks
from tests.benchmarks.measuring import time_in_turn
from tests.benchmarks.trainings import default_config, make_noddi_objective, random_batch

ROUNDS = 24
BATCH = {"cae": 2, "transformer": 16}  # windows per step over all ranks


def engine_step(config, ranks, batch):
    """Return a function that takes one step of the suite's engine."""
    engine = start_engine(make_noddi_objective(config), config, ranks.world_size, 10**6)

    def step():
        loss = engine(batch, 1.0)
        engine.backward(loss)
        loss.item()
        take_step(engine, config.optimization.gradient_clipping)

    return step


def plain_step(config, ranks, batch, device):
    """Return a function that takes one step of a loop as one would write it by hand."""
    objective = make_noddi_objective(config).to(device)
    parameters = [p for p in objective.parameters() if p.requires_grad]
    model = DistributedDataParallel(objective) if ranks.world_size > 1 else objective
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.optimization.learning_rate,
        weight_decay=config.optimization.weight_decay,
        fused=ranks.world_size == 1,
    )
    autocast = effective_precision(config.engine) == "bf16"
    clipping = config.optimization.gradient_clipping

    def step():
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = model(batch, 1.0)
        loss.backward()
        if clipping:
            torch.nn.utils.clip_grad_norm_(parameters, clipping)
        loss.item()
        optimizer.step()

    return step


def main():
    """Print the times of both, as JSON."""
    model, stage, *overrides = sys.argv[1:]
    ranks = discover_ranks()
    torch.set_num_threads(1)
    device = start_process_group(ranks)
    fused = str(ranks.world_size == 1).lower()
    config = default_config(
        model,
        f"engine.zero_stage={stage}",
        "data.window=32",
        f"engine.fused_adam={fused}",
        *overrides,
    )
    windows = BATCH[model] // ranks.world_size
    batch = random_batch(make_noddi_objective(config), config, windows)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    pair = time_in_turn(
        engine_step(config, ranks, batch), plain_step(config, ranks, batch, device), ROUNDS
    )
    if ranks.is_first:
        print("RESULT " + json.dumps({"ours_s": pair.ours_s, "theirs_s": pair.theirs_s}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
