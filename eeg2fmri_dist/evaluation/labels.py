"""What models, runs and scores are called where people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eeg2fmri_dist.evaluation.results import RunSection
from eeg2fmri_dist.scores.catalog import SCORES

MODELS = {
    "transformer": "Transformer",
    "unet": "U-Net",
    "cae": "CAE",
    "ridge": "Ridge regression",
    "ensemble": "Ensemble",
}


_RECIPES = {"paper": "paper's recipe", "default": "default recipe"}


def format_score(value: float | None, name: str) -> str:
    """Return a score with the digits that it deserves, a true minus sign, ``∞`` or ``–``."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{SCORES[name].digits}f}"
    # -0.00 is 0.00.
    return f"{float(text) + 0.0:.{SCORES[name].digits}f}".replace("-", "−")


def run_title(run: RunSection) -> str:
    """Return model and recipe in words."""
    model = MODELS.get(run.model, run.model)
    return f"{model}, {_RECIPES.get(run.recipe, run.recipe)}"


def title_among(runs: Sequence[RunSection], run: RunSection) -> str:
    """Return the title of a run, with its name where another one has the same title."""
    title = run_title(run)
    shared = sum(run_title(other) == title for other in runs) > 1
    return f"{title} ({run.name})" if shared else title


def format_p(p: float | None) -> str:
    """Return a p-value for a table; empty where there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
