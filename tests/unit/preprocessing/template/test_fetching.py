"""`python -m preprocessing.template fetch`: the license first, whole files or none."""

import functools
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nibabel as nib
import nilearn.datasets
import numpy as np
import pytest
import requests

from eeg2fmri_dist.config.preprocess import AtlasConfig
from preprocessing.template.atlas import CORTICAL, FILES, SUBCORTICAL, find_atlas_files
from preprocessing.template.fetching import main
from tests.helpers.repository import ROOT


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    for variable in ("FSLDIR", "NILEARN_DATA", "NILEARN_SHARED_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def fsl(tmp_path):
    """A folder with files of the atlas's names, as small as they may be."""
    folder = tmp_path / "fsl"
    folder.mkdir()
    for file, names in zip(FILES.values(), (CORTICAL, SUBCORTICAL), strict=True):
        labels = np.arange(len(names) + 1, dtype=np.int16).reshape(-1, 1, 1)
        nib.Nifti1Image(labels, np.eye(4)).to_filename(folder / file)
    return folder


def test_what_is_fetched_is_found_by_preprocessing(fsl, home, capsys):
    assert find_atlas_files(AtlasConfig()) == {}
    assert main(["fetch", "--accept-license", "--from", str(fsl)]) == 0
    found = find_atlas_files(AtlasConfig())
    assert set(found) == {"harvard_oxford_cortical", "harvard_oxford_subcortical"}
    for path in found.values():
        assert path.is_relative_to(home)
        assert path.read_bytes() == (fsl / path.name).read_bytes()
    assert "NON-COMMERCIAL" in capsys.readouterr().out


def test_a_folder_of_ones_own_is_named_for_the_config(fsl, tmp_path, capsys):
    own = tmp_path / "own"
    assert main(["fetch", str(own), "--accept-license", "--from", str(fsl)]) == 0
    assert f"atlas.path={own}" in capsys.readouterr().out
    assert len(find_atlas_files(AtlasConfig(path=own))) == 2


def test_without_the_license_nothing_is_written(fsl, home, capsys):
    assert main(["fetch", "--from", str(fsl)]) == 2
    assert "--accept-license" in capsys.readouterr().err
    assert main(["fetch", "--dry-run"]) == 0
    assert "would put" in capsys.readouterr().out
    assert not home.exists()


@pytest.mark.parametrize("spoil", ["missing", "cut", "other"])
def test_what_is_not_the_atlas_is_refused_and_nothing_written(fsl, home, capsys, spoil):
    path = fsl / FILES["harvard_oxford_subcortical"]
    if spoil == "missing":
        path.unlink()
    elif spoil == "cut":
        path.write_bytes(path.read_bytes()[:40])
    else:
        nib.Nifti1Image(np.full((2, 2, 2), 99, np.int16), np.eye(4)).to_filename(path)
    assert main(["fetch", "--accept-license", "--from", str(fsl)]) == (
        2 if spoil == "missing" else 3
    )
    assert path.name in capsys.readouterr().err
    assert not home.exists()


def test_no_network_is_an_environment_error(monkeypatch, home, capsys):
    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(nilearn.datasets, "fetch_atlas_harvard_oxford", fail)
    assert main(["fetch", "--accept-license"]) == 4
    assert "--from" in capsys.readouterr().err
    assert not home.exists()


@pytest.fixture
def served_archive(fsl, tmp_path, monkeypatch):
    """The archive as the atlas's server has it, on a server of ours that its address leads to."""
    archive = tmp_path / "served" / "HarvardOxford.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        for kind, names in (("Cortical", CORTICAL), ("Subcortical", SUBCORTICAL)):
            labels = "".join(f'<label index="{i}">{name}</label>' for i, name in enumerate(names))
            (fsl / f"HarvardOxford-{kind}.xml").write_text(f"<atlas><data>{labels}</data></atlas>")
            packed.add(fsl / f"HarvardOxford-{kind}.xml", f"data/atlases/HarvardOxford-{kind}.xml")
        for file in FILES.values():
            packed.add(fsl / file, f"data/atlases/HarvardOxford/{file}")
    serve = functools.partial(SimpleHTTPRequestHandler, directory=archive.parent)
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    send = requests.Session.send

    def redirected(session, request, **options):
        assert request.url.startswith("https://www.nitrc.org/")
        request.url = f"http://127.0.0.1:{server.server_port}/{request.url.rsplit('/', 1)[1]}"
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", redirected)
    yield archive
    server.shutdown()


def test_the_archive_is_downloaded_and_unpacked(served_archive, fsl, home):
    assert main(["fetch", "--accept-license"]) == 0
    found = find_atlas_files(AtlasConfig())
    assert set(found) == set(FILES)
    for path in found.values():
        assert path.read_bytes() == (fsl / path.name).read_bytes()


def test_an_archive_that_arrives_cut_leaves_nothing(served_archive, home, capsys):
    served_archive.write_bytes(served_archive.read_bytes()[:300])
    assert main(["fetch", "--accept-license"]) == 4
    assert "could not be downloaded" in capsys.readouterr().err
    assert not home.exists()


def test_the_command_answers():
    command = [sys.executable, "-m", "preprocessing.template", "fetch", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--accept-license" in done.stdout
