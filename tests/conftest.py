"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def _children_can_be_interrupted():
    """A shell makes what it starts in the background deaf to Ctrl-C, and so its children."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder with real recordings; the test is skipped where there is none."""
    beside_repository = Path(__file__).resolve().parents[2] / "shared" / "realdata"
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
