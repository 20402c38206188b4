"""Drawing without a display, in the style of the suite."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

from eeg2fmri_dist.pages.style import STYLE


@contextmanager
def drawing(width_in: float, height_in: float) -> Iterator[Figure]:
    """Draw in the style of the pages, without touching the style of whoever imported this."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width_in, height_in), layout="constrained")


def svg(picture: Figure) -> bytes:
    """Return the drawing as SVG."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def png(picture: Figure) -> bytes:
    """Return the drawing as PNG."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
