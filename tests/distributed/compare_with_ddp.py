"""Train one model by the suite's engine and by plain PyTorch DDP; print how the weights differ.

Run by test_engine.py on one or two ranks.
"""

import json
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from eeg2fmri_dist.config.model import CaeConfig
from eeg2fmri_dist.config.train import OptimisationConfig, TrainConfig
from eeg2fmri_dist.models.cae import ConvolutionalAutoencoder
from eeg2fmri_dist.ranks import discover_ranks
from eeg2fmri_dist.training.engine import make_schedule, start_engine, start_process_group
from eeg2fmri_dist.training.objectives import make_objective

GRID = (12, 12, 8)
STEPS = 20
BATCH = 4


def make_config(zero_stage, precision, **optimisation):
    return TrainConfig(
        store="unused",
        output="unused",
        model=CaeConfig(d_token=8, widths=(8, 16)),
        optimisation=OptimisationConfig(
            zero_stage=zero_stage,
            precision=precision,
            batch_size=BATCH,
            learning_rate=1e-3,
            **optimisation,
        ),
    )


def fresh_objective(config):
    torch.manual_seed(3)
    model = ConvolutionalAutoencoder(GRID, config.model)
    return make_objective(model, torch.ones(GRID, dtype=torch.bool), config.optimisation)


def batches(rank, world_size):
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        volumes = torch.randn(BATCH, 1, *GRID, generator=generator)
        yield {"bold": volumes[rank::world_size]}


def train_plain(config, ranks):
    objective = fresh_objective(config)
    model = DistributedDataParallel(objective)
    optimiser = torch.optim.Adam(objective.parameters(), lr=config.optimisation.learning_rate)
    schedule = make_schedule(optimiser, config.optimisation, STEPS)
    autocast = config.optimisation.precision == "bf16"
    for batch in batches(ranks.rank, ranks.world_size):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(batch, 1.0)
        loss.backward()
        if config.optimisation.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(
                objective.parameters(), config.optimisation.gradient_clipping
            )
        optimiser.step()
        schedule.step()
    return objective


def train_engine(config, ranks):
    objective = fresh_objective(config)
    engine = start_engine(objective, config, ranks.world_size, STEPS)
    for batch in batches(ranks.rank, ranks.world_size):
        engine.backward(engine(batch, 1.0))
        engine.step()
    return objective


def difference(one, other):
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    squared = sum(float((a - b).double().square().sum()) for a, b in pairs)
    size = sum(float(a.double().square().sum()) for a, _ in pairs)
    return (squared / size) ** 0.5


def main():
    ranks = discover_ranks()
    torch.set_num_threads(1)
    start_process_group(ranks)
    found = {}
    cases = [(stage, precision, {}) for stage in (0, 1, 2) for precision in ("fp32", "bf16")]
    cases += [(stage, "fp32", {"gradient_clipping": 0.05}) for stage in (0, 2)]
    for stage, precision, extra in cases:
        config = make_config(stage, precision, **extra)
        name = f"{stage}-{precision}{'-clipped' if extra else ''}"
        found[name] = difference(train_plain(config, ranks), train_engine(config, ranks))
    if ranks.is_first:
        print("RESULT " + json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
