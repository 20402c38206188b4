"""Drawing without a display, in the style of the suite's reports."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.figure import Figure as Canvas

from eeg2fmri_dist.pages.style import STYLE

_STYLE = STYLE | {"lines.linewidth": 1.2}


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
    options = {"quality": 88, "method": 2}
    canvas.savefig(buffer, format="webp", dpi=150, facecolor=background, pil_kwargs=options)
    return buffer.getvalue()
