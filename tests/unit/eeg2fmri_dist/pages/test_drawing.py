"""Drawing: formats, the same bytes for the same drawing, nobody else's style."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, png, svg, webp
from eeg2fmri_dist.pages.style import DARK


def draw(write, **options):
    with drawing(2.0, 1.0, **options) as canvas:
        axes = canvas.subplots()
        image = axes.imshow(np.arange(12.0).reshape(3, 4))
        bar = add_colorbar(canvas, image, axes, shrink=0.5)
        assert not bar.outline.get_visible()
        return write(canvas)


@pytest.mark.parametrize("layout", ["constrained", "compressed", None])
@pytest.mark.parametrize("write", [svg, png, webp])
def test_the_same_drawing_is_the_same_file(write, layout):
    assert draw(write, layout=layout) == draw(write, layout=layout)


def test_a_drawing_has_the_format_of_its_writer():
    assert b"<svg" in draw(svg)
    assert b"<script" not in draw(svg)
    assert [Image.open(io.BytesIO(draw(write))).format for write in (png, webp)] == ["PNG", "WEBP"]


def test_a_drawing_is_as_large_as_asked_and_a_png_is_without_margins():
    assert Image.open(io.BytesIO(draw(webp))).size == (300, 150)
    with drawing(4.0, 4.0, None) as canvas:
        canvas.text(0.5, 0.5, "x")
        trimmed = Image.open(io.BytesIO(png(canvas))).size
    assert max(trimmed) < 100


def test_a_background_is_that_of_the_whole_drawing():
    with drawing(1.0, 1.0) as canvas:
        drawn = Image.open(io.BytesIO(webp(canvas, DARK))).convert("RGB")
    assert max(drawn.getpixel((5, 5))) < 40


def test_the_style_of_whoever_draws_elsewhere_stays():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), drawing(1.0, 1.0):
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before
