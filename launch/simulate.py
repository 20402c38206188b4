"""Simulate recordings in NODDI's layout: python launch/simulate.py configs/simulate/demo.yaml."""

import sys

from eeg2fmri_dist.cli.signals import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.simulate import SimulateConfig  # noqa: E402


def act(config: SimulateConfig) -> None:
    """Simulate subjects that are not there yet."""
    from preprocessing.simulation import simulate

    simulate(config)


def plan(config: SimulateConfig) -> list[str]:
    """Say what would be simulated."""
    from preprocessing.simulation import plan

    return plan(config)


if __name__ == "__main__":
    sys.exit(run_verb(SimulateConfig, act, plan))
