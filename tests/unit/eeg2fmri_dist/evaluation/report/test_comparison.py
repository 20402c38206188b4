"""Models of several evaluations on one page, and what may not stand side by side."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.evaluation.report.comparison import compare
from eeg2fmri_dist.evaluation.report.comparison_page import render_html, write_comparison
from eeg2fmri_dist.evaluation.report.page import write_report
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.significance import subject_interval
from eeg2fmri_dist.pages.figure import Curve
from tests.helpers.browsers import measure, quoted
from tests.helpers.reports import make_report, row, run

TEN = tuple(f"{number:02d}" for number in range(10))


def evaluation(folder, *models, **data):
    """Write an evaluation of models (name, r, facts ...); returns its folder."""
    report = make_report(**data)
    write_report(replace(report, runs=models, baselines=report.baselines), folder)
    return folder


def model(name, r, subjects=TEN, **others):
    rng = np.random.default_rng(int(1000 * r))
    scores = {s: {"r_region": r + 0.05 * rng.standard_normal(), "std_ratio": 0.5} for s in subjects}
    eeg_only = ScoreRow("eeg_only", scores, 0.001)
    shifted = row("shifted", 0.01, subjects=subjects)
    curves = [Curve("loss", [(1, 0.9), (2, 0.8)], [(1, 0.9), (2, 0.7)])]
    return replace(run(eeg_only, shifted, curves=curves, **others), name=name)


def test_models_of_one_store_stand_side_by_side_with_paired_differences(tmp_path):
    first, second = model("a", 0.4), model("b", 0.3)
    one = evaluation(tmp_path / "one", first, test=TEN)
    two = evaluation(tmp_path / "two", second, test=TEN)
    comparison = compare([one, two], "x")
    assert [entry.label for entry in comparison.entries] == [
        "Transformer, default recipe (a)",
        "Transformer, default recipe (b)",
    ]
    assert comparison.barriers == []
    (pair,) = comparison.pairs
    values = [
        first.rows[0].subjects[s]["r_region"] - second.rows[0].subjects[s]["r_region"] for s in TEN
    ]
    assert pair.intervals["r_region"] == subject_interval(values)
    assert pair.intervals["r_region"].method == "bootstrap"
    assert pair.remark == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"fingerprint": "other", "store": "b.h5"}, r"the store is another one \(b.h5"),
        ({"atlas": "other parcels"}, r"the regions are others \(other parcels\)"),
        ({"scored": "validation"}, "it is the validation part of the split"),
    ],
)
def test_scores_of_other_data_are_kept_apart_and_it_is_said(tmp_path, data, reason):
    one = evaluation(tmp_path / "one", model("a", 0.4), test=TEN)
    two = evaluation(tmp_path / "two", model("b", 0.3), test=TEN, **data)
    comparison = compare([one, two], "x")
    assert len(comparison.sets) == 2
    assert re.search(reason, comparison.barriers[0])
    if "scored" not in data:
        assert comparison.pairs == []
    page = render_html(comparison)
    assert "Not all of these scores are comparable" in page
    assert "Set 2 stands apart" in page


def test_models_with_some_subjects_in_common_are_paired_over_those(tmp_path):
    one = evaluation(tmp_path / "one", model("a", 0.4, TEN[:6]), test=TEN[:6])
    two = evaluation(tmp_path / "two", model("b", 0.3, TEN[2:]), test=TEN[2:], train=["x"])
    comparison = compare([one, two], "x")
    assert "other subjects were scored (02, 03" in comparison.barriers[0]
    (pair,) = comparison.pairs
    assert pair.shared == set(TEN[2:6])
    assert pair.intervals["r_region"].n == 4
    assert pair.remark == "the 4 subjects that both were scored on, trained on other subjects"


def test_what_else_differs_is_said(tmp_path):
    one = evaluation(tmp_path / "one", model("a", 0.4), test=TEN, ssim_every=5)
    two = evaluation(tmp_path / "two", model("b", 0.5), test=TEN, leaks=True, train=["32", *TEN])
    comparison = compare([one, two], "x")
    (together,) = comparison.sets
    remarks = " ".join(together.remarks)
    assert "trained on different subjects" in remarks
    assert "leaks" in remarks
    assert "SSIM is of different volumes" in remarks
    assert "(leaking split)" in render_html(comparison)
    titles = [title for title, _ in together.baselines]
    assert len(titles) == 2


def test_a_model_that_is_read_twice_is_shown_once(tmp_path):
    same = {"weights_sha256": "0123456789abcdef" * 4}
    one = evaluation(tmp_path / "evaluation", model("a", 0.4, **same), test=TEN)
    two = evaluation(tmp_path / "run", model("a", 0.4, **same), test=TEN)
    assert len(compare([one, two], "x").entries) == 1


def test_the_same_names_in_two_folders_are_told_apart(tmp_path):
    paths = [
        evaluation(tmp_path / name, model("a", r), test=TEN) for name, r in (("x", 0.1), ("y", 0.2))
    ]
    labels = [entry.label for entry in compare(paths, "x").entries]
    assert labels == ["Transformer, default recipe (x)", "Transformer, default recipe (y)"]


def test_something_else_than_an_evaluation_is_refused(tmp_path):
    with pytest.raises(DataError, match="no evaluation is there"):
        compare([tmp_path], "x")
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(DataError, match="not an evaluation of this version"):
        compare([tmp_path], "x")


def test_numbers_are_written_beside_the_page(tmp_path):
    one = evaluation(tmp_path / "one", model("a", 0.4), model("b", 0.2), test=TEN)
    write_comparison(compare([one], "x"), tmp_path)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert len(content["sets"][0]["models"]) == 2
    (difference,) = content["differences"]
    assert difference["scores"]["r_region"]["n"] == 10
    assert "1 of 1 intervals exclude 0" in (tmp_path / "comparison.html").read_text()


PAGE = """<!DOCTYPE html><body><script>
const measured = {};
for (const width of [400, 1200]) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = REPORT;
  frame.onload = () => {
    const page = frame.contentDocument;
    const cells = [...page.querySelectorAll("table.stacking td")];
    const seen = cell => {
      const box = cell.getBoundingClientRect();
      return box.width > 0 && box.left >= 0 && box.right <= width;
    };
    measured[width] = {
      cells: cells.length,
      hidden: cells.filter(cell => !seen(cell)).length,
      wider: page.documentElement.scrollWidth > width,
      pictures: [...page.images].map(image => image.naturalWidth > 0 && image.alt.length > 0),
      broken: [...page.querySelectorAll("nav a")].filter(
        link => !page.querySelector(link.getAttribute("href"))).length,
    };
  };
  document.body.append(frame);
}
onload = () => { document.title = JSON.stringify(measured); };
</script></body>"""


def test_the_page_in_a_browser(tmp_path):
    one = evaluation(tmp_path / "one", model("a", 0.4), model("b", 0.2), test=TEN)
    two = evaluation(tmp_path / "two", model("c", 0.4), test=TEN, fingerprint="other")
    page = render_html(compare([one, two], "<script>x</script>"))
    found, console = measure(tmp_path, PAGE.replace("REPORT", quoted(page)))
    assert console == []
    for measured in found.values():
        assert measured["cells"] > 20
        assert measured["hidden"] == 0
        assert not measured["wider"]
        assert measured["pictures"] == [True] * 3
        assert measured["broken"] == 0
