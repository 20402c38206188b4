"""Train one model: python launch/train.py configs/train/transformer.yaml [key.path=value ...]."""

import logging
import sys

from eeg2fmri_dist.training.preemption import StopRequest

STOP = StopRequest()  # a batch system may send its signal while the rest is being imported

from eeg2fmri_dist.command import run_verb  # noqa: E402
from eeg2fmri_dist.config.train import TrainConfig  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: TrainConfig) -> None:
    """Train, or say that it is done."""
    from eeg2fmri_dist.runs import is_finished
    from eeg2fmri_dist.training.inputs import fingerprint_inputs

    if is_finished(config, fingerprint_inputs(config)):
        logger.info("%s is up to date", config.output)
        return
    from eeg2fmri_dist.training.run import train

    train(config, STOP)


def plan(config: TrainConfig) -> list[str]:
    """Say what would be trained."""
    STOP.close()
    from eeg2fmri_dist.training.plan import plan_training

    return plan_training(config)


if __name__ == "__main__":
    sys.exit(run_verb(TrainConfig, act, plan))
