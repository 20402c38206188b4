"""EEG -> predicted BOLD: python launch/predict.py configs/predict/demo.yaml [eeg=...]."""

import sys

from eeg2fmri_dist.cli.signals import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.predict import PredictConfig  # noqa: E402


def act(config: PredictConfig) -> None:
    """Predict the recordings that are not up to date."""
    from eeg2fmri_dist.prediction.job import predict

    predict(config)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted."""
    from eeg2fmri_dist.prediction.job import plan

    return plan(config)


if __name__ == "__main__":
    sys.exit(run_verb(PredictConfig, act, plan))
