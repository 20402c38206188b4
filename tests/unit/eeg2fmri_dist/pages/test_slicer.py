"""Slices over time: what the strips show, and that the page moves them in a real browser."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from eeg2fmri_dist.evaluation.report.page import render_html
from eeg2fmri_dist.pages.slicer import LEVELS, SLICES, make_slicer
from tests.helpers.browsers import measure, quoted
from tests.helpers.reports import make_report

PAGE = """<!DOCTYPE html><body><script>
const frame = document.createElement("iframe");
frame.style = "width: WIDTHpx; height: 900px; border: 0";
frame.srcdoc = REPORT;
frame.onload = () => {
  const page = frame.contentDocument;
  const measured = {};
  const shown = () => [...page.querySelectorAll(".plane")].filter(plane => plane.offsetHeight > 0);
  const offsets = () => [...shown()[0].querySelectorAll(".window")].map(window => {
    const strip = window.querySelector("img");
    return (window.getBoundingClientRect().left - strip.getBoundingClientRect().left)
      / window.getBoundingClientRect().width;
  });
  const state = () => ({
    planes: shown().map(plane => plane.dataset.plane),
    offsets: offsets(),
    said: page.querySelector(".slicer output").textContent,
  });
  const slider = page.querySelector(".slicer input[type=range]");
  measured.start = state();
  slider.value = 7;
  slider.dispatchEvent(new Event("input"));
  measured.moved = state();
  page.querySelector(".slicer input[value=Sagittal]").click();
  measured.sagittal = state();
  measured.label = slider.labels[0].textContent.trim();
  measured.images = [...page.images].map(image => [image.alt.length, image.naturalWidth]);
  measured.wider = page.documentElement.scrollWidth > WIDTH + 1;
  measured.paper = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
  measured.ink = frame.contentWindow.getComputedStyle(page.body).color;
  document.title = JSON.stringify(measured);
};
document.body.append(frame);
</script></body>"""


def recording(volumes=12, shape=(9, 11, 8)):
    rng = np.random.default_rng(0)
    true = 500 * (1 + 0.02 * rng.standard_normal((volumes, *shape)))
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    return 500 * (1 + 0.3 * (true / 500 - 1)), true, mask


@pytest.fixture(scope="module")
def slicer():
    predicted, true, mask = recording()
    return make_slicer(predicted, true, mask, (3.0, 3.5, 6.0), 2.0, "Subject 43.")


@pytest.fixture(scope="module")
def page(slicer):
    report = make_report()
    runs = [replace(report.runs[0], slicer=slicer), *report.runs[1:]]
    return render_html(replace(report, runs=runs))


def test_strips_show_the_change_in_percent_and_nothing_outside_the_brain(slicer):
    _, true, mask = recording()
    axial = slicer.planes[0]
    image = Image.open(io.BytesIO(axial.strips[0].data)).convert("RGBA")
    pixels = np.asarray(image)
    height, width = 11, SLICES * 9
    assert pixels.shape[:2] == (height, width * 12)
    assert len(slicer.frames) == 12
    assert slicer.frames[3] == "volume 4 of 12, 6 s"
    frame = pixels[:, 3 * width : 3 * width + 9]
    # Of a mask from 1 to 6 along z, the first of two even cuts lies at 3.
    change = 100 * (true[3] / true.mean(axis=0) - 1)[:, :, 3]
    scaled = np.clip(change / slicer.limit_percent, -1, 1)
    expected = colormaps["RdBu_r"](np.rint((scaled + 1) / 2 * (LEVELS - 1)) / (LEVELS - 1))
    inside = mask[:, :, 3].T[::-1]
    np.testing.assert_allclose(
        frame[inside][:, :3], 255 * expected.transpose(1, 0, 2)[::-1][inside][:, :3], atol=1
    )
    assert (frame[..., 3] == np.where(inside, 255, 0)).all()


def test_a_prediction_that_never_changes_is_white():
    _, true, mask = recording()
    constant = np.broadcast_to(true.mean(axis=0), true.shape)
    strips = make_slicer(constant, true, mask, (3, 3, 6), 2.0).planes[0].strips
    predicted = np.asarray(Image.open(io.BytesIO(strips[1].data)).convert("RGB"))
    brain = np.asarray(Image.open(io.BytesIO(strips[1].data)).convert("RGBA"))[..., 3] > 0
    assert (predicted[brain] > 240).all()


def test_long_recordings_are_thinned_and_stay_small():
    rng = np.random.default_rng(0)
    volumes = rng.normal(500, 10, size=(70, 64, 64, 30)).astype(np.float32)
    found = make_slicer(volumes, volumes, np.ones((64, 64, 30), bool), (3, 3, 6), 2.0)
    assert len(found.frames) == 30
    assert found.frames[-1].startswith("volume 70 of 70")
    # Noise in every voxel is the worst case.
    assert sum(len(strip.data) for plane in found.planes for strip in plane.strips) < 2.5e6


@pytest.mark.parametrize(
    ("width", "dark"), [(400, False), (1200, False), (1200, True)], ids=["phone", "laptop", "dark"]
)
def test_the_slider_and_the_choice_of_plane_move_the_slices(page, tmp_path, width, dark):
    text = PAGE.replace("WIDTH", json.dumps(width)).replace("REPORT", quoted(page))
    flags = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    found, console = measure(tmp_path, text, *flags)
    assert console == []
    assert found["start"]["planes"] == ["Axial"]
    assert found["start"]["offsets"] == pytest.approx([0, 0, 0], abs=0.01)
    assert found["start"]["said"] == "volume 1 of 12, 0 s"
    assert found["moved"]["offsets"] == pytest.approx([7, 7, 7], abs=0.05)
    assert found["moved"]["said"] == "volume 8 of 12, 14 s"
    assert found["sagittal"]["planes"] == ["Sagittal"]
    assert found["sagittal"]["offsets"] == pytest.approx([7, 7, 7], abs=0.05)
    assert found["label"] == "Time"
    assert all(alt > 20 and pixels > 0 for alt, pixels in found["images"])
    assert len(found["images"]) > 15
    assert not found["wider"]
    paper, ink = (sum(map(int, found[key][4:-1].split(","))) for key in ("paper", "ink"))
    assert (paper < ink) == dark


def test_a_report_of_several_runs_on_the_full_grid_stays_below_15_megabytes(page):
    rng = np.random.default_rng(0)
    volumes = rng.normal(500, 10, size=(30, 64, 64, 30)).astype(np.float32)
    full = make_slicer(volumes, volumes, np.ones((64, 64, 30), bool), (3, 3, 6), 2.0)
    report = make_report()
    runs = [replace(report.runs[0], slicer=full)] * 4
    assert len(render_html(replace(report, runs=runs))) < 15e6
