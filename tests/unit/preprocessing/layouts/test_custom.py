"""A lab's own layout: the example of docs/own_data.md as it stands there, and what is refused."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.preprocess import PreprocessConfig, SourceConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.store import Store, verify
from preprocessing.layouts import noddi
from preprocessing.layouts.selection import select_recordings
from preprocessing.recordings import KnownTruth
from tests.helpers.preprocessing_jobs import ROOT, simulate_recordings

_, _, PAGE = (ROOT / "docs/own_data.md").read_text("utf-8").partition("## A layout of your own")
FAST = ("bold.transform=affine", "bold.grid=[32,32,15]", "quality=false", "cluster.workers=1")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder as the page describes it: two participants, one of them without BOLD."""
    folder = tmp_path_factory.mktemp("lab")
    simulate_recordings(folder, ["32"])
    data, ours = folder / "data", folder / "data/lab/p01"
    ours.mkdir(parents=True)
    header = noddi.eeg_header(data, "32", "raw")
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        shutil.copy(header.with_suffix(suffix), ours / f"eeg_1{suffix}")
    shutil.copy(noddi.bold_run(data, "32"), ours / "bold_1.nii.gz")
    (folder / "data/lab/p02").mkdir()
    (folder / "data/lab/p02/eeg_1.vhdr").touch()
    (layout,) = blocks("python")
    (folder / "lab_layout.py").write_text(layout)
    (folder / "lab.yaml").write_text(blocks("yaml")[0])
    return folder


@pytest.mark.slow
def test_the_example_of_the_page_finds_and_preprocesses(lab):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = []
    for command in blocks("sh")[0].splitlines():
        _, script, *arguments = shlex.split(command, comments=True)
        assert script == "launch/preprocess.py"
        done = subprocess.run(
            [sys.executable, ROOT / script, *arguments, *FAST, "on_error=continue"],
            cwd=lab,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        printed.append(done.stdout + done.stderr)
    table, log = printed
    assert re.search(r"sub-01_run-1 +selected .* 10 +2 ", table)
    assert re.search(r"sub-02_run-1 +refused .* no BOLD run: p02/bold_1\.nii\.gz is missing", table)
    store = Store(lab / "runs/lab/store.h5")
    assert [entry.key for entry in store.recordings] == ["sub-01_run-1"], log
    assert store.n_samples == 5
    assert verify(store.path) == []
    assert [entry.recording for entry in store.left_out] == ["sub-02_run-1"]


def test_every_config_of_the_page_loads(tmp_path):
    for text in blocks("yaml"):
        (tmp_path / "config.yaml").write_text(text)
        load_config(PreprocessConfig, tmp_path / "config.yaml")
    assert yaml.safe_load(blocks("yaml")[1])["source"]["exclude"][1]["run"] == 2


@pytest.fixture
def find(tmp_path):
    def find(code, **settings):
        path = tmp_path / "layout.py"
        path.write_text(code)
        return select_recordings(
            SourceConfig(name="custom", path=tmp_path, layout=path, **settings)
        )

    return find


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", r"defines no function find_recordings\(source\)"),
        ("def find_recordings(source):\n    return [1 / 0]", "line 2: ZeroDivisionError"),
        ("import no_such_module", "line 1: ModuleNotFoundError"),
        ("def find_recordings(source:\n", "line 1: SyntaxError"),
        ("def find_recordings(source):\n    return ['sub-1']", r"gave 'sub-1' \(str\)"),
        ("def find_recordings(source):\n    return None", "TypeError"),
        ("def find_recordings(source):\n    return []", "no custom recordings found"),
    ],
)
def test_layouts_that_do_not_work_are_named(find, tmp_path, code, message):
    with pytest.raises(DataError, match=message) as error:
        find(code)
    assert str(tmp_path) in str(error.value)


def test_what_is_known_of_a_recording_is_relative_to_the_data_too(find, tmp_path):
    for name in ("a.set", "a.nii"):
        (tmp_path / name).touch()
    code = """
from preprocessing.recordings import KnownTruth, Recording

def find_recordings(source):
    return [Recording("1", "a.set", "a.nii", truth=KnownTruth(clean_eeg_path="clean.set"))]
"""
    (recording,) = find(code).selected
    assert recording.truth == KnownTruth(clean_eeg_path=tmp_path / "clean.set")


def test_paths_are_relative_to_the_data_and_the_configured_tr_wins(find, tmp_path):
    for name in ("a.set", "a.nii"):
        (tmp_path / name).touch()
    code = """
from preprocessing.recordings import Recording

def find_recordings(source):
    return [Recording("1", "a.set", "a.nii", tr_s=3.0), Recording("2", "b", "c", problem="moved")]
"""
    selection = find(code, tr_s=2.0)
    (recording,) = selection.selected
    assert recording.eeg_path == tmp_path / "a.set"
    assert recording.bold_path == tmp_path / "a.nii"
    assert recording.tr_s == 2.0
    assert find(code).selected[0].tr_s == 3.0
    assert [(item.recording.subject, item.reason) for item in selection.refused] == [("2", "moved")]


def test_a_missing_file_and_a_layout_of_another_kind_are_refused(tmp_path):
    source = SourceConfig(name="custom", path=tmp_path, layout=tmp_path / "none.py")
    with pytest.raises(DataError, match="no Python file"):
        select_recordings(source)
    path = tmp_path / "config.yaml"
    for kind, layout in (("custom", None), ("bids", "layout.py")):
        section = {"name": kind, "path": "data", "layout": layout}
        path.write_text(yaml.safe_dump({"source": section, "output": str(Path("store.h5"))}))
        with pytest.raises(ConfigError, match=r"source\.layout belongs to source\.name: custom"):
            load_config(PreprocessConfig, path)
