"""Models of known kind get the verdict that they deserve; the page is whole and loads nothing."""

import base64
import io
import json
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from eeg2fmri_dist.evaluation.metrics_file import read_report, to_json
from eeg2fmri_dist.evaluation.report import figures
from eeg2fmri_dist.evaluation.report.page import render_html, write_report
from eeg2fmri_dist.evaluation.results import Origin, ReportInput
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.verdict import Finding, verdict
from tests.helpers.reports import SUBJECTS, make_report, row, run


def decide(*rows, baselines=()):
    return verdict(run(*rows), baselines)


def test_perfect_model_uses_the_eeg():
    decided = decide(row("eeg_only", 0.95, p=1e-4, std_ratio=1.0), row("shifted", 0.0))
    assert decided.finding is Finding.USES_EEG
    assert decided.answer == "Yes"
    assert "0.95" in decided.sentence


def test_constant_model_has_collapsed_however_few_the_subjects():
    for subjects in (SUBJECTS, ("43",)):
        constant = (row(name, 0.0, 1.0, 0.0, subjects) for name in ("eeg_only", "shifted"))
        decided = decide(*constant)
        assert decided.finding is Finding.COLLAPSED
        assert decided.answer == "No"


def test_copier_is_named_a_copier():
    decided = decide(
        row("eeg_only", 0.05, p=0.2),
        row("shifted", 0.04),
        row("teacher_forced", 0.59),
        row("teacher_forced_shifted", 0.58),
    )
    assert decided.finding is Finding.COPIES_PAST
    assert "0.59" in decided.sentence
    assert "0.58" in decided.sentence


def test_teacher_forced_score_that_needs_the_eeg_is_no_copy():
    decided = decide(
        row("eeg_only", 0.02),
        row("shifted", 0.01),
        row("teacher_forced", 0.5),
        row("teacher_forced_shifted", 0.1),
    )
    assert decided.finding is Finding.NOT_SHOWN


def test_model_that_scores_the_same_with_shifted_eeg_does_not_use_it():
    """It follows the truth (all recordings drift alike, say), but not through the EEG."""
    decided = decide(row("eeg_only", 0.4, p=1e-4), row("shifted", 0.4))
    assert decided.finding is Finding.WITHOUT_EEG
    assert decided.answer == "No"


def test_wandering_model():
    decided = decide(row("eeg_only", -0.01, std_ratio=2.3), row("shifted", 0.0))
    assert decided.finding is Finding.WANDERING
    assert "2.3" in decided.sentence


def test_model_with_the_sign_flipped():
    decided = decide(row("eeg_only", -0.5, p=1.0), row("shifted", 0.0))
    assert decided.finding is Finding.INVERTED
    assert decided.answer == "No"
    assert "−0.50" in decided.sentence


@pytest.mark.parametrize("subjects", [("43",), ("43", "48")])
def test_two_subjects_are_too_few_whatever_they_show(subjects):
    follows = decide(
        row("eeg_only", 0.5, 1e-4, 0.6, subjects), row("shifted", 0, 0.5, 0.6, subjects)
    )
    assert follows.finding is Finding.TOO_FEW
    assert follows.answer == "Cannot tell"
    assert "does so here" in follows.sentence
    nothing = decide(
        row("eeg_only", 0.02, 0.4, 0.6, subjects), row("shifted", 0, 0.5, 0.6, subjects)
    )
    assert nothing.finding is Finding.TOO_FEW
    assert "No sign of it" in nothing.sentence


def test_gain_in_half_of_the_subjects_cannot_tell():
    eeg_only = {
        s: {"r_region": r, "std_ratio": 0.6}
        for s, r in zip(SUBJECTS, (0.5, 0.4, 0, 0), strict=True)
    }
    decided = decide(ScoreRow("eeg_only", eeg_only, 0.01), row("shifted", 0.0))
    assert decided.finding is Finding.INCONCLUSIVE
    assert decided.answer == "Cannot tell"


def test_interval_alone_or_p_alone_is_not_enough():
    assert decide(row("eeg_only", 0.03, p=0.2), row("shifted", -0.05)).answer == "No"
    assert decide(row("eeg_only", 0.3, p=0.2), row("shifted", 0.0)).answer == "No"


def test_model_without_controls_is_not_judged():
    assert decide(row("eeg_only", 0.9, p=1e-4)).finding is Finding.NOT_TESTED
    assert decide(row("eeg_only", 0.9, p=None), row("shifted", 0)).finding is Finding.NOT_TESTED


def test_autoencoder_is_not_asked():
    assert decide(row("reconstruction", 0.9)).answer == "Not asked"


def test_score_of_a_constant_image_is_called_that():
    images = {"psnr_minmax_db": 25.4, "ssim2d_minmax": 0.964}
    mean_image = row("training_mean", 0.0, 1.0, 0.0, **images)
    same = decide(row("eeg_only", 0.4, 1e-4, **images), row("shifted", 0), baselines=[mean_image])
    assert any("constant image" in note for note in same.notes)
    better = images | {"psnr_minmax_db": 30.0}
    above = decide(row("eeg_only", 0.4, 1e-4, **better), row("shifted", 0), baselines=[mean_image])
    assert not any("constant image" in note for note in above.notes)


def test_runs_of_one_model_and_recipe_are_told_apart():
    report = make_report()
    transformer, cae = report.runs
    twice = [replace(transformer, name="small"), replace(transformer, name="large"), cae]
    page = unescape(render_html(replace(report, runs=twice)))
    for name in ("small", "large"):
        assert f"Transformer, default recipe ({name})" in page
    assert "default recipe (" not in unescape(render_html(report))


@pytest.mark.parametrize(("chosen_epoch", "said"), [(0, True), (1.5, False), (None, False)])
def test_a_model_that_training_did_not_better_is_named(chosen_epoch, said):
    section = run(row("eeg_only", 0.4, p=0.001), row("shifted", 0.0), chosen_epoch=chosen_epoch)
    notes = " ".join(verdict(section).notes)
    assert ("weights from before the first step" in notes) is said


@pytest.mark.parametrize(
    ("ridge", "words"), [(0.5, "worse than"), (0.4, "does not beat"), (0.2, "beats")]
)
def test_network_is_compared_with_ridge(ridge, words):
    decided = decide(
        row("eeg_only", 0.4, 1e-4), row("shifted", 0), baselines=[row("ridge", ridge, 1e-4)]
    )
    assert any(words in note for note in decided.notes)


def test_two_subjects_neither_beat_nor_lose_to_ridge():
    rows = [
        row(name, r, 1e-4, subjects=("43", "48")) for name, r in (("eeg_only", 0.4), ("ridge", 0.5))
    ]
    notes = " ".join(decide(rows[0], row("shifted", -0.001), baselines=rows[1:]).notes)
    assert "ridge" in notes
    assert not any(word in notes for word in ("worse", "beat", "interval", "nan"))


def test_zero_has_no_sign():
    assert "−0.00" not in decide(row("eeg_only", -0.001), row("shifted", -0.001)).sentence


def test_symptoms_stand_beside_a_yes():
    decided = decide(
        row("eeg_only", 0.3, 1e-4, std_ratio=2.0),
        row("shifted", 0.28 - 0.01),
        row("teacher_forced", 0.6),
        row("teacher_forced_shifted", 0.6),
    )
    assert decided.finding is Finding.USES_EEG
    notes = " ".join(decided.notes)
    for words in ("stays when the EEG is shifted", "copied from the past", "too large"):
        assert words in notes


def test_recordings_of_a_subject_are_averaged():
    pairs = [("43", {"r_region": 0.2}), ("43", {"r_region": 0.4}), ("48", {"r_region": 0.6})]
    averaged = ScoreRow.from_recordings("eeg_only", pairs)
    assert averaged.values("r_region") == pytest.approx({"43": 0.3, "48": 0.6})


def test_ratios_and_squared_errors_have_no_interval_below_zero():
    scores = [{"std_ratio": value, "mse_zscore": value, "r_region": value} for value in (0, 0, 1)]
    uneven = ScoreRow("eeg_only", dict(zip(SUBJECTS, scores, strict=False)))
    assert uneven.interval("r_region").low < 0
    assert uneven.interval("std_ratio").low > 0
    assert uneven.interval("mse_zscore").low > 0


class _Page(HTMLParser):
    """Text, tags that are open, and every address that the page names."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.addresses, self.images = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[key] for key in ("src", "href", "srcset") if key in values]
        if tag == "img":
            self.images.append(values)
        assert tag not in {"script", "link", "iframe"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def html():
    return render_html(make_report())


def test_page_is_well_formed_and_loads_nothing(html):
    page = _Page(html)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "url(" not in html
    assert "@import" not in html
    identifiers = {address[1:] for address in page.addresses if address.startswith("#")}
    assert all(f'id="{identifier}"' in html for identifier in identifiers)


def test_page_says_the_verdict_before_anything_else(html):
    text = " ".join(" ".join(_Page(html).text).split())
    assert "Demo: simulated data" in text
    assert "leaking" not in text
    question = text.index("Does the model use the EEG?")
    assert question < text.index("uses the EEG") < text.index("What each number means")
    assert "Yes: the model uses the EEG." in text


def test_every_image_can_be_decoded_and_has_words(html):
    images = _Page(html).images
    # Overview, one learning curve (an empty one is left out), slices, two regions, three matrices.
    assert len(images) == 1 + 1 + 1 + 2 + 3
    for image in images:
        assert len(image["alt"]) > 20
        kind, _, content = image["src"].partition(";base64,")
        data = base64.b64decode(content)
        if kind.endswith("png"):
            Image.open(io.BytesIO(data)).verify()
        else:
            assert b"</svg>" in data


def test_what_a_user_wrote_is_shown_and_not_run(html):
    assert "&lt;script&gt;alert(1)" in html
    assert "∞" in html


def test_same_results_give_the_same_page(html):
    assert render_html(make_report()) == html


def test_leaking_split_and_real_data_are_said_in_the_title():
    html = render_html(make_report(leaks=True, origin=Origin.REAL, split="by_sample"))
    title = html.partition("<title>")[2].partition("</title>")[0]
    assert title == "Demo: real data (leaking split: test subjects are in the training data)"
    assert "This split leaks." in html


def test_metrics_json_is_valid_and_holds_every_subject(tmp_path):
    write_report(make_report(), tmp_path)
    written = json.loads(
        (tmp_path / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert written == json.loads(json.dumps(to_json(make_report())))
    eeg_only = written["runs"][0]["variants"]["eeg_only"]
    assert set(eeg_only["scores"]["r_region"]["subjects"]) == set(SUBJECTS)
    assert eeg_only["scores"]["r_region"]["mean"] == pytest.approx(0.4)
    assert eeg_only["scores"]["psnr_minmax_db"]["mean"] is None
    assert written["runs"][0]["verdict"]["answer"] == "Yes"
    assert written["runs"][0]["gain_over_shifted"]["low"] > 0.3
    assert written["data"]["test"] == list(SUBJECTS)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]


def test_report_of_an_autoencoder_alone():
    report = make_report()
    alone = ReportInput("CAE", report.data, report.runs[1:])
    html = render_html(alone)
    assert "No model here takes EEG." in html
    assert _Page(html).images == []
    assert to_json(alone)["runs"][0]["gain_over_shifted"] is None


def test_slices_of_a_prediction_that_never_changes():
    volumes = np.full((4, 8, 9, 7), 700.0)
    change = figures.temporal_change(volumes, 2)
    assert not change.any()
    mask = np.ones(change.shape, bool)
    assert figures.change_slices(change, change, mask, (3, 3, 6)).media_type == "image/png"


def test_regions_and_calibration_are_on_the_page_and_read_again(tmp_path):
    report = make_report()
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "With a calibration scan" in page
    assert "Adapted to the subject" in page
    assert "no step" in page
    # All four subjects are above circularly shifted EEG in one region, none in the other.
    assert "4 subjects cannot bring below 0.062" in page
    content = json.loads((tmp_path / "metrics.json").read_text())
    over = content["runs"][0]["regions_over_shifted"]
    assert over["r"] == pytest.approx([0.4, 0.0])
    assert over["p"] == [1 / 16, 1.0]
    assert content["runs"][0]["variants"]["eeg_only"]["regions"]["subjects"]["43"][1] == 0.1
    assert content["runs"][0]["calibrated"][1]["volumes"] == 10
    again = to_json(read_report(tmp_path))["runs"][0]
    assert content["runs"][0]["adapted"][0]["penalty"] is None
    for name in ("regions_over_shifted", "variants", "calibrated", "adapted"):
        assert again[name] == content["runs"][0][name]
