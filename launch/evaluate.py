"""Trained runs -> report: python launch/evaluate.py configs/evaluate/demo.yaml."""

import sys

from eeg2fmri_dist.cli.signals import end_quietly, leave_on_signals

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.evaluate import EvaluateConfig  # noqa: E402


def act(config: EvaluateConfig) -> None:
    """Evaluate, unless the report is there."""
    from eeg2fmri_dist.evaluation.evaluate import evaluate

    evaluate(config)


def plan(config: EvaluateConfig) -> list[str]:
    """Say what would be evaluated."""
    from eeg2fmri_dist.evaluation.evaluate import why_evaluate
    from eeg2fmri_dist.inference.weights import resolve_weights

    reason = why_evaluate(config)
    if reason is None:
        return [f"{config.output}/report.html is up to date"]
    lines = [f"score {config.subjects} subjects with"]
    lines += [f"  {resolve_weights(run, 'best')}" for run in config.runs]
    return [*lines, f"into {config.output}/metrics.json and report.html: {reason}"]


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(run_verb(EvaluateConfig, act, plan))
