"""Drawing without a display, in the style of the suite."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure as Canvas

from eeg2fmri_dist.pages.style import STYLE


@contextmanager
def drawing(
    width_in: float,
    height_in: float,
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> Iterator[Canvas]:
    """Draw in the style of the pages, without touching the style of whoever imported this.

    Parameters
    ----------
    width_in, height_in : float
        Size in inches.
    layout : {"constrained", "compressed"} or None
        Who places the axes: matplotlib, the same with images close together, or the caller.

    Yields
    ------
    matplotlib.figure.Figure
        To be written inside the context, by `svg`, `png` or `webp`.
    """
    with matplotlib.rc_context(STYLE):
        yield Canvas(figsize=(width_in, height_in), layout=layout)


def svg(canvas: Canvas) -> bytes:
    """Return the drawing as SVG, the same bytes for the same drawing."""
    return _saved(canvas, "svg", transparent=True, metadata={"Date": None})


def png(canvas: Canvas) -> bytes:
    """Return the drawing as PNG without empty margins, the same bytes for the same drawing."""
    return _saved(canvas, "png", bbox_inches="tight", metadata={"Software": None})


def webp(canvas: Canvas, background: str = "none") -> bytes:
    """Return the drawing as WebP, a quarter of what slices of brains take as PNG."""
    return _saved(canvas, "webp", facecolor=background, pil_kwargs={"quality": 88, "method": 2})


def add_colorbar(canvas: Canvas, image: ScalarMappable, axes: Any, **options: Any) -> Colorbar:
    """Add a color bar without a frame, beside one or more axes; options are those of matplotlib."""
    bar = canvas.colorbar(image, ax=axes, **options)
    bar.outline.set_visible(False)
    return bar


def _saved(canvas: Canvas, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=file_format, **options)
    return buffer.getvalue()
