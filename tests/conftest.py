"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.repository import ROOT

# What starts real jobs and trainings comes first: a long test at the end would leave a core idle.
_LONGEST_FIRST = (
    "slurm",
    "sweeps",
    "distributed",
    "e2e",
    "faults",
    "benchmarks",
    "property",
    "unit",
)


def pytest_collection_modifyitems(items):
    """Put what takes long at the beginning."""
    items.sort(key=lambda item: _LONGEST_FIRST.index(item.nodeid.split("/")[1]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file on one worker, and all of tests/slurm: they share one cluster."""
    from xdist.scheduler import LoadFileScheduling

    class OneCluster(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "tests/slurm" if file.startswith("tests/slurm/") else file

    return OneCluster(config, log)


@pytest.fixture(scope="session", autouse=True)
def _children_can_be_interrupted():
    """A shell makes what it starts in the background deaf to Ctrl-C, and so its children."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder with real recordings; the test is skipped where there is none."""
    beside_repository = ROOT.parent / "shared" / "realdata"
    folder = Path(os.environ.get("EEG2FMRI_REALDATA") or beside_repository)
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set EEG2FMRI_REALDATA)")
    return folder


@pytest.fixture
def write_eeg(tmp_path):
    """Write a BrainVision recording; returns its header.

    Called with microvolts (channel, sample), the rate, channel names and the samples of the
    volume markers (``Response/R128``); further arguments go to `pybv.write_brainvision`.
    """
    import pybv

    def write(data_uv, sfreq_hz, names, marker_samples=(), stem="recording", **options) -> Path:
        volumes = [
            {"onset": int(s), "type": "Response", "description": 128} for s in marker_samples
        ]
        pybv.write_brainvision(
            data=np.asarray(data_uv) * 1e-6,
            sfreq=sfreq_hz,
            ch_names=list(names),
            fname_base=stem,
            folder_out=tmp_path,
            events=volumes or None,
            **({"fmt": "binary_int16", "resolution": 0.1} | options),
        )
        return tmp_path / f"{stem}.vhdr"

    return write
