"""A trained run -> safetensors with a model card: launch/export.py configs/export/default.yaml."""

import logging
import sys

from eeg2fmri_dist.cli.signals import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.cli.command_line import run_verb  # noqa: E402
from eeg2fmri_dist.config.export import ExportConfig  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: ExportConfig) -> None:
    """Export; it takes a moment, so it is done anew each time."""
    from eeg2fmri_dist.export import publish

    publish(config)
    logger.info("wrote %s: read its README.md before you hand it on", config.output)


def plan(config: ExportConfig) -> list[str]:
    """Say what would be exported."""
    from eeg2fmri_dist.export import find_run_scores

    weights, standing = find_run_scores(config)
    scored = "with its scores" if standing else "without scores: none of these weights were found"
    return [f"{weights}", f"  -> {config.output}/model.safetensors, README.md ({scored})"]


if __name__ == "__main__":
    sys.exit(run_verb(ExportConfig, act, plan))
