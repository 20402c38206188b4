"""Drawing without a display, in the style of the suite's reports."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure as Canvas

INK, MUTED, RULE, GREY = "#1f2933", "#6b7785", "#e3e8ee", "#9aa5b1"
BLUE, ORANGE, GREEN, RED = "#2a6f97", "#d9822b", "#5b8e7d", "#a4553f"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GREY,
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
    "lines.linewidth": 1.2,
    "svg.hashsalt": "eeg2fmri_dist",
}


@dataclass(frozen=True)
class Figure:
    """A picture for a page.

    Attributes
    ----------
    name : str
        Unique on the page.
    title, caption : str
        What is shown, and how to read it.
    alt : str
        The same for who cannot see it.
    data : bytes
    media_type : str
    """

    name: str
    title: str
    caption: str
    alt: str
    data: bytes
    media_type: str


@contextmanager
def drawing(
    width_in: float, height_in: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Canvas]:
    """Draw in the style of the pages, without touching the style of whoever imported this."""
    with matplotlib.rc_context(_STYLE):
        yield Canvas(figsize=(width_in, height_in), layout=layout)


def svg(canvas: Canvas) -> bytes:
    """Return the drawing as SVG; pictures in it have 150 dots per inch."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", transparent=True, dpi=150, metadata={"Date": None})
    return buffer.getvalue()


def webp(canvas: Canvas, background: str = "none") -> bytes:
    """Return the drawing as WebP, a quarter of what slices of brains take as PNG."""
    buffer = io.BytesIO()
    options = {"quality": 88, "method": 3}
    canvas.savefig(buffer, format="webp", dpi=150, facecolor=background, pil_kwargs=options)
    return buffer.getvalue()
