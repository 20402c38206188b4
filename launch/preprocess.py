"""Raw recordings -> one HDF5 store: python launch/preprocess.py configs/preprocess/noddi.yaml."""

import sys

from eeg2fmri_dist.cli.signals import end_quietly, leave_on_signals

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.preprocess import PreprocessConfig  # noqa: E402


def act(config: PreprocessConfig) -> None:
    """Preprocess what is not up to date."""
    from preprocessing.job.pipeline import preprocess

    preprocess(config).check_complete()


def plan(config: PreprocessConfig) -> list[str]:
    """Say what would be preprocessed."""
    from preprocessing.job.planning import plan

    return plan(config)


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(run_verb(PreprocessConfig, act, plan))
