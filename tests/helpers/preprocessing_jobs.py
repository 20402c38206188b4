"""Tiny preprocessing jobs, and what is compared of them."""

import json
import os
import subprocess
import sys

import yaml

from tests.helpers.repository import ROOT

SUBJECTS = ("32", "35", "38", "43")


def simulate_recordings(folder, subjects=SUBJECTS):
    """Write tiny simulated recordings into ``folder/data``."""
    from eeg2fmri_dist.config.simulate import SimulateConfig
    from preprocessing.simulation import simulate

    simulate(
        SimulateConfig(
            output=folder / "data",
            subjects=list(subjects),
            n_volumes=10,
            tr_s=2.0,
            sfreq_hz=500,
            workers=2,
        )
    )


def write_config(folder, data, **cluster):
    """Write a config whose store lies in a folder; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "preprocess.yaml"
    values = {
        "source": {"name": "noddi", "path": str(data), "origin": "simulated"},
        "output": str(folder / "store.h5"),
        "bold": {"transform": "affine", "grid": [32, 32, 15]},
        "cluster": {"memory_gib": 1.0, **cluster},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def preprocess(*arguments, launcher=(), environment=None):
    """Run the command to its end."""
    return subprocess.run(
        [*launcher, sys.executable, "launch/preprocess.py", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=280,
    )


def contents(folder):
    """Return what a store holds: its fingerprint, and that of each shard."""
    from eeg2fmri_dist.store import Store, verify

    stores = [folder / "store.h5", *sorted((folder / "store.shards").glob("*.h5"))]
    assert [problem for store in stores for problem in verify(store)] == []
    return {store.name: Store(store).fingerprint for store in stores}


def costs(folder):
    """Return what each step and page of each recording took, as recorded beside the shards."""
    found = [json.loads(path.read_text()) for path in (folder / "store.shards").glob("sub-*.json")]
    pages = [cost for cost in found if "cpu_s" in cost]
    steps = [
        cost for record in found if "row" in record for cost in record["row"]["costs"].values()
    ]
    return steps + pages
