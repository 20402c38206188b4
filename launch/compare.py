"""Evaluations -> one page: python launch/compare.py configs/compare/default.yaml."""

import logging
import sys

from eeg2fmri_dist.cli.signals import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.evaluate import CompareConfig  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: CompareConfig) -> None:
    """Compare; it takes a second, so it is done anew each time."""
    from eeg2fmri_dist.evaluation.report.comparison import compare
    from eeg2fmri_dist.evaluation.report.comparison_page import write_comparison

    write_comparison(compare(config.evaluations, config.title), config.output)
    logger.info("wrote %s", config.output / "comparison.html")


def plan(config: CompareConfig) -> list[str]:
    """Say what would be compared with what."""
    from eeg2fmri_dist.evaluation.report.comparison import compare

    comparison = compare(config.evaluations, config.title)
    lines = []
    for number, each in enumerate(comparison.sets, 1):
        lines.append(f"set {number}: {each.data.store}, {len(each.subjects)} subjects")
        lines += [f"  {entry.label}" for entry in each.entries]
    lines += [f"not comparable: {barrier}" for barrier in comparison.barriers]
    return [*lines, f"into {config.output}/comparison.html"]


if __name__ == "__main__":
    sys.exit(run_verb(CompareConfig, act, plan))
