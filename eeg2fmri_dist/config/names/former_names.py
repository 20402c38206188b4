"""Keys and values of configs as they were called before: what was renamed, by section.

Files, overrides, run folders, model cards and stores of earlier versions are read by these tables.
"""

from __future__ import annotations

from typing import Any

from eeg2fmri_dist.config.names.renamed import RenamedItems, RenamedKey, RenamedValue

TRAIN = (
    RenamedKey("optimisation", "optimization"),
    RenamedKey("tokeniser", "tokenizer"),
    RenamedValue("recipe", "own", "default"),
)
OPTIMIZATION = (
    RenamedKey("select_by", "checkpoint_metric"),
    RenamedKey("start_margin", "min_improvement_se"),
    RenamedKey("early_stopping", "patience"),
)
DATA = (RenamedKey("normalise", "normalize"), RenamedKey("eeg_normalise", "eeg_normalize"))
TRANSFORMER = (
    RenamedKey("teacher_keep", "teacher_forcing_ratio"),
    RenamedKey("skip_products", "skip_quadratic"),
    RenamedKey("train_tokeniser", "train_tokenizer"),
)
RIDGE = (RenamedKey("products", "quadratic"),)
# Of source, split, cluster and folds.
DISCRIMINATOR = (RenamedKey("kind", "name"),)
PREPROCESS = (RenamedKey("drop_volumes", "dummy_scans"),)
EEG = (
    RenamedKey("exclude", "drop_channels"),
    RenamedValue("reference", "laplacian", "csd", new_key="spatial_filter"),
)
BOLD = (
    RenamedKey("route", "spatial_normalization"),
    RenamedValue("spatial_normalization", "direct", "direct_epi"),
    RenamedValue("spatial_normalization", "t1", "t1w"),
)
RESOURCES = (
    RenamedKey("memory_gb", "memory_gib"),
    RenamedKey("gpu_memory_gb", "gpu_memory_gib"),
)

# Scores, and the rows and parts of metrics.json and log.jsonl that are named after them.
SCORES = {
    "explained": "ceiling_normalized_r2",
    "identified": "identification_accuracy",
    "r_specific": "r_region_gsr",
    "future_share": "noncausal_fraction",
    "shuffled_gap": "shift_gap",
    **{
        f"{score}_{former}{masked}{unit}": f"{score}_{today}{masked}{unit}"
        for former, today in (("paper", "zscore"), ("peer", "minmax"))
        for masked in ("", "_masked")
        for score, unit in (
            ("psnr", "_db"),
            ("ssim2d", ""),
            ("ssim3d", ""),
            ("rmse", ""),
            ("mse", ""),
        )
    },
    "data_range_paper": "data_range_zscore",
}
ROWS = {
    "free": "eeg_only",
    "shuffled": "shifted",
    "teacher_forced_shuffled": "teacher_forced_shifted",
    "ridge_shuffled": "ridge_shifted",
    "shuffled_eeg": "shifted_eeg",
    "gain_over_shuffled": "gain_over_shifted",
    "regions_over_shuffled": "regions_over_shifted",
    "r_region_shuffled": "r_region_shifted",
    "r_specific_shuffled": "r_region_gsr_shifted",
}
FOLDS = (*DISCRIMINATOR, RenamedItems("scores", SCORES))
OBJECTIVE = (
    RenamedItems(
        "metric", {f"validation/{old}": f"validation/{new}" for old, new in SCORES.items()}
    ),
)
# Sections of a training config that a model card holds.
CARD_SECTIONS = ("recipe", "model", "tokenizer", "tokeniser", "data")
# What a run was made from, in its provenance.json.
INPUTS = {"tokeniser": "tokenizer"}


def with_current_scores(content: Any) -> Any:
    """Return the content of a metrics.json or regional.json by today's names of scores and rows.

    What lies below ``subjects`` is named after subjects and stays.
    """
    if isinstance(content, list):
        return [with_current_scores(item) for item in content]
    if not isinstance(content, dict):
        return content
    names = SCORES | ROWS
    return {
        names.get(key, key): value if key == "subjects" else with_current_scores(value)
        for key, value in content.items()
    }


def current_tensor(name: str) -> str:
    """Return today's name of a tensor in a file of weights or of a training's state."""
    return name.replace("tokeniser.", "tokenizer.")


def current_score(name: str) -> str:
    """Return today's name of a score, or of a score after ``validation/`` in a log."""
    group, slash, last = name.rpartition("/")
    return f"{group}{slash}{SCORES.get(last, last)}"
