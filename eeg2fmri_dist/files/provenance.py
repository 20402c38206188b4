"""Where a result comes from: code, packages, machine, command."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "deepspeed",
    "mpi4py",
    "h5py",
    "mne",
    "nibabel",
    "antspyx",
    "dask",
    "submitit",
    "tensorboard",
    "nilearn",
    "numpy",
    "scipy",
)


def collect_provenance() -> dict[str, Any]:
    """Return git commit, package versions, host and command of this process."""
    return {
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "git": git_state(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on."""
    versions = {"eeg2fmri_dist": metadata.version("eeg2fmri_dist")}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state() -> dict[str, str | bool] | None:
    """Return commit and whether files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "modified": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
