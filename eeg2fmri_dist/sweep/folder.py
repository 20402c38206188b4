"""The folder of a sweep: what was asked for, where its trials and jobs are, who may change it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from eeg2fmri_dist.config import to_yaml, with_current_names
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError, LaunchError
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.files.made_from import differences

# How a sweep is carried out may change between calls; what it is may not.
_EXECUTION_KEYS = ("output", "budget", "cluster", "resources", "retries", "poll_s")


class SweepFolder:
    """Paths of a sweep.

    Parameters
    ----------
    root : Path
        Holds ``sweep.yaml``, ``bases/`` (resolved training configs), ``journal.log`` (Optuna),
        ``trials/`` (run folders), ``jobs/`` (output and exit codes) and ``sweep.html``.
    """

    def __init__(self, root: Path):
        self.root = root
        self.config = root / "sweep.yaml"
        self.journal = root / "journal.log"
        self.page = root / "sweep.html"
        self.submissions = root / "jobs" / "submitit"

    def base(self, name: str) -> Path:
        """Return the resolved training config that trials start from."""
        return self.root / "bases" / f"{name}.yaml"

    def run(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.root / "trials" / f"{number:04d}"

    def job(self, number: int) -> Path:
        """Return the job folder of a trial."""
        return self.root / "jobs" / f"{number:04d}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the sweep; a killed process lets go by itself.

        Raises
        ------
        LaunchError
            If the file system has no locks.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            os.close(descriptor)
            raise LaunchError(
                f"this file system cannot lock files ({error.strerror})",
                where=self.root,
                remedy="give an output=... on a file system with locks (NFS, or Lustre mounted "
                "with -o flock)",
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)

    def claim(self, config: SweepConfig, bases: Mapping[str, TrainConfig]) -> None:
        """Record what the sweep is, or check that the folder holds this very sweep.

        Raises
        ------
        ConfigError
            If it holds another one; the difference is shown.
        """
        wanted = {
            "sweep": yaml.safe_load(to_yaml(config)),
            "bases": {name: yaml.safe_load(to_yaml(base)) for name, base in bases.items()},
        }
        if self.config.exists():
            self._check(wanted)
        else:
            for name, base in bases.items():
                write_text(self.base(name), to_yaml(base))
        # Last: a folder with sweep.yaml is complete.
        write_text(self.config, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))

    def _check(self, wanted: dict) -> None:
        stored = _under_current_names(yaml.safe_load(self.config.read_text(encoding="utf-8")))
        changes = [
            f"{key}: {old!r} there, {new!r} now"
            for key, old, new in differences(stored, wanted)
            if key.removeprefix("sweep.").split(".")[0] not in _EXECUTION_KEYS
        ]
        if changes:
            raise ConfigError(
                "the folder holds another sweep (" + "; ".join(changes) + ")",
                where=self.root,
                remedy="give another output=..., or delete the folder to begin again",
            )


def _under_current_names(stored: dict[str, Any]) -> dict[str, Any]:
    """What `SweepFolder.claim` of an earlier version wrote, by today's keys."""
    bases = stored["bases"].items()
    return {
        "sweep": with_current_names(SweepConfig, stored["sweep"])[0],
        "bases": {name: with_current_names(TrainConfig, base)[0] for name, base in bases},
    }
