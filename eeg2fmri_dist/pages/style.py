"""Colors and matplotlib settings that all figures of the suite share."""

from __future__ import annotations

from typing import Any

INK, MUTED, RULE, GRAY = "#1f2933", "#6b7785", "#e3e8ee", "#9aa5b1"
BLUE, ORANGE, GREEN, RED = "#2a6f97", "#d9822b", "#5b8e7d", "#a4553f"
PALE_GREY, PALE_ORANGE = "#c3cbd4", "#edc193"
CYCLE = (BLUE, ORANGE, GREEN, RED, INK, "#8e6c8a", "#b6992d", "#499894")  # of models
# Slices of a brain stand on black.
DARK, ON_DARK = "#0b0e11", "#cfd6dd"
CONTOUR, INNER_CONTOUR = "#35d0f0", "#ffb224"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "eeg2fmri_dist",
}
