"""The report as a browser lays it out on a phone, a tablet and a laptop."""

import json
from dataclasses import replace

import pytest

from eeg2fmri_dist.evaluation.reference_baselines import BASELINES
from eeg2fmri_dist.evaluation.report.page import render_html
from eeg2fmri_dist.evaluation.score_rows import VARIANTS
from eeg2fmri_dist.scores.catalog import SCORES
from tests.helpers.browsers import measure, quoted
from tests.helpers.reports import make_report, row, run

WIDTHS = (400, 800, 1200)

# Frames of fixed widths: a browser's window has a least one. A page's script is not stopped by the
# end of a script that is quoted in it.
PAGE = """<!DOCTYPE html><body><script>
const measured = {};
function measure(frame, width) {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach(part => { part.open = true; });
  const style = frame.contentWindow.getComputedStyle.bind(frame.contentWindow);
  const inSight = element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && box.left >= 0 && box.right <= width;
  };
  const hasLabel = cell => {
    const heads = cell.closest("table").tHead.rows[0].cells;
    const own = style(cell, "::before").content;
    return inSight(heads[cell.cellIndex]) && own === "none" || own === `"${cell.dataset.label}"`;
  };
  const numbers = [...page.querySelectorAll("table.stacking td")];
  const wider = element => element.scrollWidth > element.clientWidth + 1;
  measured[width] = {
    numbers: numbers.length,
    outOfSight: numbers.filter(cell => !inSight(cell)).map(cell => cell.textContent),
    withoutLabel: numbers.filter(cell => !hasLabel(cell)).map(cell => cell.textContent),
    scrolling: [page.documentElement, ...page.querySelectorAll(".scroll")].filter(wider).length,
    smallest: Math.min(...numbers.map(cell => parseFloat(style(cell).fontSize))),
    height: page.documentElement.scrollHeight,
  };
}
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = REPORT;
  frame.onload = () => measure(frame, width);
  document.body.append(frame);
}
onload = () => { document.title = JSON.stringify(measured); };
</script></body>"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Measurements of the report at each width."""
    folder = tmp_path_factory.mktemp("browser")
    scores = {
        name: 21.25 if score.unit == "dB" else 0.9125
        for name, score in SCORES.items()
        if name not in ("r_region", "std_ratio")
    }
    report = replace(
        make_report(),
        runs=[run(*(row(name, -0.2, **scores) for name in VARIANTS))],
        baselines=[row(name, -0.2, **scores) for name in BASELINES],
    )
    page = PAGE.replace("WIDTHS", json.dumps(WIDTHS))
    found, console = measure(folder, page.replace("REPORT", quoted(render_html(report))))
    assert console == []
    return {int(width): measured for width, measured in found.items()}


@pytest.mark.parametrize("width", WIDTHS)
def test_every_score_is_in_sight_under_its_label(layout, width):
    found = layout[width]
    assert found["numbers"] > 200
    assert found["outOfSight"] == []
    assert found["withoutLabel"] == []
    assert found["scrolling"] == 0
    assert found["smallest"] >= 12
