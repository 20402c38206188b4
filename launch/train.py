"""Train one model: python launch/train.py configs/train/transformer.yaml [key.path=value ...]."""

import logging
import sys

from eeg2fmri_dist.training.distributed.preemption import StopRequest

STOP = StopRequest()  # a batch system may send its signal while the rest is being imported

from eeg2fmri_dist.cli.command_line import View, run_verb  # noqa: E402
from eeg2fmri_dist.config.train import TrainConfig  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: TrainConfig) -> None:
    """Train, or say that it is done."""
    from eeg2fmri_dist.files.run_folder import is_finished
    from eeg2fmri_dist.inference.weights import find_newest
    from eeg2fmri_dist.training.batches.inputs import fingerprint_inputs

    try:
        done = is_finished(config, fingerprint_inputs(config))
        if done and find_newest(config.output / "checkpoints"):
            logger.info("%s is up to date", config.output)
            return
        from eeg2fmri_dist.training.run import train

        train(config, STOP)
    finally:
        STOP.close()


def plan(config: TrainConfig) -> list[str]:
    """Say what would be trained."""
    STOP.close()
    from eeg2fmri_dist.training.planning.plan import plan_training

    return plan_training(config)


def derive(config: TrainConfig) -> str:
    """Show what DeepSpeed is told, where it has a part."""
    if config.model.name in ("ridge", "ensemble"):
        return ""
    import yaml

    from eeg2fmri_dist.training.distributed.deepspeed_config import derive_deepspeed_config

    world_size = config.world_size or 1
    derived = yaml.safe_dump(derive_deepspeed_config(config, world_size), sort_keys=False)
    return f"\nDeepSpeed's config on world_size={world_size}, derived from the above:\n{derived}"


def preflight(config: TrainConfig) -> None:
    """Check nodes, network and disks."""
    STOP.close()
    from eeg2fmri_dist.training.planning.preflight import preflight

    preflight(config)


VIEWS = [View("preflight", "check nodes, network and disks, and stop", preflight)]

if __name__ == "__main__":
    sys.exit(run_verb(TrainConfig, act, plan, views=VIEWS, derive=derive))
