"""Many trainings as jobs: python launch/sweep.py configs/sweep/demo.yaml [key.path=value ...]."""

import sys
from collections.abc import Iterable

from eeg2fmri_dist.cli.command_line import View, run_verb
from eeg2fmri_dist.config.sweep import SweepConfig


def act(config: SweepConfig) -> None:
    """Carry the sweep out, or continue it."""
    from eeg2fmri_dist.sweep.run import sweep

    sweep(config)


def plan(config: SweepConfig) -> Iterable[str]:
    """Say what would be run."""
    from eeg2fmri_dist.sweep.run import plan

    return plan(config)


def status(config: SweepConfig) -> None:
    """Show the trials; on a terminal, until the sweep is over."""
    from eeg2fmri_dist.sweep.run import show_status

    show_status(config)


def best(config: SweepConfig) -> None:
    """Print the best trial's config."""
    from eeg2fmri_dist.sweep.run import show_best

    print(show_best(config), end="")


VIEWS = (
    View("status", "show the trials; on a terminal, a table that follows them", status),
    View("best", "print the best config as YAML that launch/train.py takes", best),
)

if __name__ == "__main__":
    sys.exit(run_verb(SweepConfig, act, plan, views=VIEWS))
