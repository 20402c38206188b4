"""Quality pages: what is on them, what they load, when they are drawn again, hostile names."""

import base64
import dataclasses
import re
import types
from html.parser import HTMLParser

import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.pages.figure import Figure
from preprocessing.artifacts.cleaning import Cleaning
from preprocessing.cluster.client import WorkerDiedError
from preprocessing.job import quality_pages
from preprocessing.job.quality_pages import quality_folder, update_pages
from preprocessing.job.shards import shard_folder
from preprocessing.job.summary import Row
from preprocessing.quality import gather_evidence
from preprocessing.quality.eeg_alone import eeg_figures
from preprocessing.quality.gather_evidence import CONFOUNDS
from preprocessing.quality.page import Neighbors, write_failure, write_page
from preprocessing.quality.page_evidence import (
    Evidence,
    evidence_path,
    load_evidence,
    save_evidence,
)
from preprocessing.template.mni import TEMPLATE_SHAPE, grid_affine, load_brain_mask, load_template

HOSTILE = "<script>alert(1)</script>"
QUALITY = {
    "transform": "affine",
    "dice": 0.95,
    "coverage": 0.97,
    "fd_mean_mm": 0.12,
    "fd_max_mm": 0.9,
    "tsnr_median": 66.0,
    "std_dvars_max": 2.4,
    "saturated_volumes": 3,
    "eeg_peak_to_peak_uv_median": 130.0,
    "tr_mismatch": "",
}


def make_evidence(key="sub-01", n_volumes=30, **changes):
    rng = np.random.default_rng(0)
    grid = (16, 16, 8)
    template = np.asarray(load_template().dataobj, np.float32)
    names = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Odd"]
    evidence = Evidence(
        facts={
            "key": key,
            "tr_s": 2.0,
            "n_volumes": n_volumes,
            "dummy_scans": 5,
            "origin": "simulated",
            "motion": "measure",
            "slice_timing": "off",
            "channel_names": names,
            "eeg_unit": "uV^2",
            "confound_names": CONFOUNDS,
            "carpet_rows": [10, 6, 4],
            "bad_channels": {},
            "cleaning": {},
        },
        quality=dict(QUALITY),
        epi=np.clip(template / 40, 0, 255).astype(np.uint8),
        epi_mask=np.asarray(load_brain_mask().dataobj) > 0,
        tsnr=rng.uniform(20, 90, grid).astype(np.float16),
        grid_affine=grid_affine(grid),
        carpet=rng.integers(-90, 90, (20, n_volumes)).astype(np.int8),
        confounds=np.abs(rng.normal(0, 0.1, (n_volumes, len(CONFOUNDS)))).astype(np.float32),
        brightness=np.exp(-np.arange(30.0)).astype(np.float32),
        frequencies_hz=np.arange(1.0, 31.0),
        spectrum=rng.lognormal(0, 1, (len(names), 30)).astype(np.float32),
        power_course=rng.normal(0, 1, (len(names), n_volumes)).astype(np.float32),
        marker_spacing_s=np.full(n_volumes + 4, 2.0),
    )
    return dataclasses.replace(evidence, **changes)


class Page(HTMLParser):
    """What a browser would make of the page: elements, text, addresses that it would load."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.loads, self.links, self.alts = [], "", [], [], []
        self.attributes = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.attributes |= set(attrs)
        self.tags.append(tag)
        self.loads += [attrs[name] for name in ("src", "srcset", "data") if name in attrs]
        if tag == "link":
            self.loads.append(attrs["href"])
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.alts.append(attrs.get("alt", ""))

    def handle_data(self, data):
        self.text += data


def draw(folder, evidence):
    save_evidence(folder / "a.evidence.npz", evidence)
    write_page(folder / "a.evidence.npz", folder / "a.html", Neighbors("", "b.html"))
    return Page(folder / "a.html")


def figures_of(evidence):
    figure = Figure("title", "caption", "alt", b"svg", "image/svg+xml", name="name")
    names = ("template_on_epi", "epi_on_template", "time_courses", "tsnr", "topographies")
    return dict.fromkeys(names, figure) | {"small": [figure]}


@pytest.fixture
def no_pictures(monkeypatch):
    """For what does not depend on the pictures, which take seconds."""
    monkeypatch.setattr("preprocessing.quality.page._figures", figures_of)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("page"), make_evidence())


def test_evidence_comes_back_as_it_was_saved(tmp_path):
    saved = make_evidence()
    save_evidence(tmp_path / "e.npz", saved)
    loaded = load_evidence(tmp_path / "e.npz")
    for field in dataclasses.fields(Evidence):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
    assert loaded.quality == QUALITY
    assert loaded.epi.shape == TEMPLATE_SHAPE
    np.testing.assert_array_equal(loaded.confound("trans_y_mm"), saved.confounds[:, 1])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_damaged_evidence_is_one_message(tmp_path, content):
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(DataError, match="evidence for a quality page cannot be used"):
        load_evidence(tmp_path / "e.npz")


def test_a_page_is_self_contained_and_every_picture_has_a_text(page):
    assert page.loads
    assert all(address.startswith("data:image/") for address in page.loads)
    assert len(page.alts) == 8
    assert all(len(alt) > 20 for alt in page.alts)
    assert page.links == ["index.html", "b.html"]


def test_a_page_says_what_the_numbers_say(page):
    text = re.sub(r"\s+", " ", page.text)
    assert "sub-01: simulated data" in text
    assert "Accept" in text
    assert "0.12 mm ≤ 0.25 mm" in re.sub(r"(mm|m)(?=[≤≥])", r"\1 ", text)
    assert "1 channel(s) without a standard place" in text


def test_reasons_stand_at_the_top(tmp_path, no_pictures):
    page = draw(tmp_path, make_evidence(quality=QUALITY | {"fd_mean_mm": 0.9}))
    assert "Reject" in page.text
    assert "framewise displacement, mean is 0.90 mm, accepted: ≤ 0.25 mm" in page.text


def test_a_single_volume_has_a_page(tmp_path):
    n_volumes = 1
    names = ["A", "B"]
    facts = make_evidence(n_volumes=n_volumes).facts | {"channel_names": names}
    evidence = make_evidence(
        n_volumes=n_volumes,
        facts=facts,
        spectrum=np.ones((2, 30), np.float32),
        power_course=np.zeros((2, n_volumes), np.float32),
        marker_spacing_s=np.zeros(0),
        tsnr=np.zeros((16, 16, 8), np.float16),
        brightness=np.zeros(1, np.float32),
    )
    assert "No topographies" in draw(tmp_path, evidence).text


def test_spectra_before_and_after_removal_are_shown(tmp_path):
    evidence = make_evidence(
        cleaning_hz=np.arange(1.0, 101.0),
        spectrum_before=np.full((11, 100), 40.0),
        spectrum_after=np.full((11, 100), 5.0),
    )
    evidence.facts["cleaning"] = {
        "gradient_volumes": 30,
        "heartbeats": 71,
        "residual_db": [["delta", 0.2, 0.9], ["alpha", -0.1, 0.4]],
    }
    text = draw(tmp_path, evidence).text
    assert (
        "As recorded, and as used after gradient artifact removal, pulse artifact removal" in text
    )
    assert "averaged over 30 volumes" in text
    assert "71 heart beats" in text
    assert "delta 0.2 dB (0.9 dB), alpha −0.1 dB (0.4 dB)." in text


def test_a_reference_is_not_called_artifact_removal(tmp_path):
    evidence = make_evidence(
        cleaning_hz=np.arange(1.0, 101.0),
        spectrum_before=np.full((11, 100), 40.0),
        spectrum_after=np.full((11, 100), 35.0),
    )
    evidence.facts["cleaning"] = {
        "gradient_volumes": 0,
        "heartbeats": 0,
        "reference": "recorded",
        "spatial_filter": "csd",
        "residual_db": [],
    }
    text = draw(tmp_path, evidence).text
    assert "As recorded, and as used after surface Laplacian;" in text
    assert "no gradient artifact was removed" in text


def test_eeg_without_bold_is_drawn_after_a_cleaning():
    spectra_db = np.full((2, 30), 40.0), np.full((2, 30), 5.0)
    cleaning = Cleaning(
        ("Cz", "Pz"), np.arange(1.0, 31.0), *spectra_db, n_volumes=30, reference="average"
    )
    features = types.SimpleNamespace(
        channel_names=("Cz", "Pz"),
        frequencies_hz=np.arange(1.0, 31.0),
        power=np.ones((20, 2, 30), np.float32),
        cleaning=cleaning,
    )
    captions = [figure.caption for figure in eeg_figures(features, 2.0)]
    assert "as used after gradient artifact removal, average reference;" in captions[0]


def test_evidence_is_gathered_from_a_cleaning():
    """Of the dataclass that artifact removal returns only these names are used."""
    cleaning = types.SimpleNamespace(
        frequencies_hz=np.arange(1.0, 4.0),
        before_db=np.full((2, 3), 40.0),
        after_db=np.full((2, 3), 5.0),
        bad_channels={"Cz": "flat"},
        residual_db={"delta": (0.2, 0.9), "alpha": (-0.7, 1.5)},
    )
    features = types.SimpleNamespace(channel_names=("Cz", "Pz"), cleaning=cleaning)
    assert gather_evidence.spectra_around_cleaning(features)["spectrum_before"].shape == (2, 3)
    numbers = gather_evidence._cleaning_numbers(features)
    assert numbers == {
        "eeg_bad_channel_share": 0.5,
        "eeg_residual_db": 0.7,
        "eeg_residual_delta_db": 0.9,
        "eeg_residual_alpha_db": 1.5,
    }
    cleaning.before_db = cleaning.after_db
    assert gather_evidence.spectra_around_cleaning(features) == {}


def test_names_from_files_are_escaped(tmp_path, no_pictures):
    evidence = make_evidence(key=f"sub-{HOSTILE}", quality=QUALITY | {"tr_mismatch": HOSTILE})
    evidence.facts["channel_names"][0] = HOSTILE
    evidence.facts["bad_channels"] = {HOSTILE: HOSTILE}
    page = draw(tmp_path, evidence)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 4


def test_hostile_channel_names_stay_text_in_pictures_too(tmp_path, page):
    hostile = [
        HOSTILE,
        '"><img src=x onerror=alert(1)>',
        "'><svg onload=alert(1)>",
        "</text></svg></figure><a href=javascript:alert(1)>",
        "$\\frac{$",
    ]
    evidence = make_evidence()
    known = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]
    evidence.facts["channel_names"] = known + hostile
    evidence.facts["bad_channels"] = {name: f"unlike {name}" for name in hostile}
    rng = np.random.default_rng(1)
    n_channels = len(known + hostile)
    evidence = dataclasses.replace(
        evidence,
        spectrum=rng.lognormal(0, 1, (n_channels, 30)).astype(np.float32),
        power_course=rng.normal(0, 1, (n_channels, 30)).astype(np.float32),
    )
    drawn = draw(tmp_path, evidence)
    assert set(drawn.tags) == set(page.tags)
    assert not [name for name in drawn.attributes if name.startswith("on")]
    assert not [link for link in drawn.links if ":" in link]
    for name in hostile:
        assert f"{name} (unlike {name})" in drawn.text
    for picture in drawn.loads:
        content = base64.b64decode(picture.partition("base64,")[2])
        assert b"onerror" not in content
        assert b"<script" not in content


# The pages of a data set.


class Outcome:
    def __init__(self, error=None):
        self.failure = error


class InlineCluster:
    """Draws at once, in this process."""

    def __init__(self, failing=()):
        self.drawn, self.failing = [], failing

    def start(self, n_steps):
        pass

    def submit(self, step, place, name, rank):
        self.drawn.append(place.key)
        if place.key in self.failing:
            return Outcome(WorkerDiedError("the worker process died"))
        step(place)
        return Outcome()

    def completed(self, futures):
        yield from list(futures)

    def error(self, future):
        return future.failure


KEYS = ("sub-01", "sub-02", "sub-03")


@pytest.fixture
def config(tmp_path, no_pictures):
    config = PreprocessConfig.model_validate(
        {"source": {"name": "noddi", "path": tmp_path}, "output": tmp_path / "store.h5"}
    )
    shard_folder(config.output).mkdir()
    for number, key in enumerate(KEYS):
        quality = QUALITY | {"fd_mean_mm": 0.1 + 0.2 * number}
        save(config, make_evidence(key, quality=quality))
    return config


def save(config, evidence):
    shard = shard_folder(config.output) / f"{evidence.facts['key']}.h5"
    save_evidence(evidence_path(shard), evidence)


def rows(*failed):
    return [
        Row(key, "failed", message="registration failed", error="no brain found")
        if key in failed
        else Row(key, "computed")
        for key in KEYS
    ]


def test_only_pages_whose_inputs_changed_are_drawn_again(config, caplog):
    caplog.set_level("INFO")
    cluster = InlineCluster()
    index = update_pages(cluster, rows(), config)
    assert cluster.drawn == list(KEYS)
    assert index == quality_folder(config.output) / "index.html"
    assert "quality: 1 accept, 2 look, 0 reject" in caplog.text
    assert str(index) in caplog.text

    before = index.stat().st_mtime_ns
    cluster = InlineCluster()
    update_pages(cluster, rows(), config)
    assert cluster.drawn == []
    assert index.stat().st_mtime_ns == before
    save(config, make_evidence("sub-02", quality=QUALITY | {"dice": 0.5}))
    (quality_folder(config.output) / "sub-03.html").write_text("cut")
    update_pages(cluster, rows(), config)
    assert cluster.drawn == ["sub-02", "sub-03"]
    assert "reject" in Page(index).text
    assert "overlap of brain masks is 0.500" in Page(index).text


def test_the_index_links_the_pages_and_sorts_by_raw_values(config):
    index = update_pages(InlineCluster(), rows(), config)
    page = Page(index)
    assert page.links == [f"{key}.html" for key in KEYS]
    assert page.tags.count("button") > 8
    assert page.loads == []
    values = re.findall(r'data-value="(0\.[1-5]\d*)"', index.read_text())
    assert [float(value) for value in values] == pytest.approx([0.1, 0.3, 0.5])


def test_failed_recordings_are_named_in_the_index(config):
    update_pages(InlineCluster(), rows(), config)
    page = Page(update_pages(InlineCluster(), rows("sub-02"), config))
    assert "sub-02: registration failed: no brain found" in page.text
    assert page.links == ["sub-01.html", "sub-03.html"]


def test_a_refused_registration_has_a_page_until_it_succeeds(config):
    """Drawn by the step that failed; here only its file."""
    folder = quality_folder(config.output)
    folder.mkdir()
    failure = folder / "sub-02.failed.html"
    failure.write_text("refused")
    page = Page(update_pages(InlineCluster(), rows("sub-02"), config))
    assert page.links == ["sub-02.failed.html", "sub-01.html", "sub-03.html"]
    update_pages(InlineCluster(), rows(), config)
    assert not failure.exists()


def test_the_page_of_a_refused_registration_shows_it(tmp_path):
    evidence = make_evidence()
    refused = types.SimpleNamespace(
        warped_epi=np.where(evidence.epi > 0, evidence.epi, np.nan), warped_mask=evidence.epi_mask
    )
    write_failure(tmp_path / "f.html", "sub-02", f"Dice 0.5 {HOSTILE}", refused)
    page = Page(tmp_path / "f.html")
    assert len(page.alts) == 2
    assert f"Dice 0.5 {HOSTILE}" in page.text
    assert page.links == ["index.html"]


def test_a_page_that_cannot_be_drawn_fails_nothing_else(config, caplog):
    index = update_pages(InlineCluster(failing=("sub-02",)), rows(), config)
    assert "sub-02: the quality page failed" in caplog.text
    assert "the worker process died" in Page(index).text
    cluster = InlineCluster()
    update_pages(cluster, rows(), config)
    assert cluster.drawn == ["sub-02"]


def test_missing_evidence_is_said_and_leftovers_go(config):
    evidence_path(shard_folder(config.output) / "sub-03.h5").unlink()
    folder = quality_folder(config.output)
    folder.mkdir()
    (folder / ".sub-01.html.77.part").touch()
    index = update_pages(InlineCluster(), rows(), config)
    assert "evidence for a quality page cannot be used" in Page(index).text
    assert not list(folder.glob(".*"))


def test_hostile_keys_stay_inside_the_folder_and_the_page(config):
    key = 'sub-"><img src=x onerror=alert(1)>'
    save(config, make_evidence(key))
    index = update_pages(InlineCluster(), [Row(key, "computed")], config)
    page = Page(index)
    assert "img" not in page.tags
    assert key in page.text
    assert page.links == ["sub-%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.html"]
    assert quality_pages.page_name(key).endswith(".html")
