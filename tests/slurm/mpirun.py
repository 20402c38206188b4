"""The mpirun of this machine, and an environment in which mpi4py works with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.slurm_trainings import ROOT

# Debian's MPICH lacks the library name that mpi4py's wheel looks for.
_DEBIAN_MPICH = Path("/usr/lib/x86_64-linux-gnu/libmpich.so.12")
_ASK = "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2, 'each rank is alone'"


def usable_environment(folder):
    """Return an environment for `mpirun`; skip the test where mpi4py and mpirun do not fit."""
    if shutil.which("mpirun") is None:
        pytest.skip("no mpirun here; apt-get install -y --no-install-recommends mpich")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if _DEBIAN_MPICH.exists() and not is_open_mpi():
        (folder / "libmpi.so.12").symlink_to(_DEBIAN_MPICH)
        environment["LD_LIBRARY_PATH"] = str(folder)
    asked = mpirun(environment, "-c", _ASK)
    if asked.returncode != 0:
        pytest.skip(f"mpi4py does not work with this mpirun: {asked.stderr[-500:]}")
    return environment


def is_open_mpi():
    """Tell whose mpirun it is."""
    asked = subprocess.run(["mpirun", "--version"], capture_output=True, text=True)
    return "Open MPI" in asked.stdout


def mpirun(environment, *command, ranks=2):
    """Run Python in two ranks, or more."""
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.run(
        ["mpirun", "-n", str(ranks), sys.executable, *command],
        cwd=ROOT,
        env=environment | as_root,
        capture_output=True,
        text=True,
        timeout=240,
    )
