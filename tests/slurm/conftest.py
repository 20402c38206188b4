"""One real Slurm for all tests of this folder."""

import tempfile
from pathlib import Path

import pytest

from tests.slurm.mpirun import usable_environment
from tests.slurm.slurm_cluster import INSTALL, SlurmCluster, missing_programs


@pytest.fixture(scope="session")
def running_slurm():
    missing = missing_programs()
    if missing:
        pytest.skip(f"no Slurm here (missing: {', '.join(missing)}); {INSTALL}")
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmCluster(Path(folder)) as it:
        yield it


@pytest.fixture
def slurm(running_slurm):
    """The cluster, without jobs before and after the test."""
    yield running_slurm
    running_slurm.cancel_all()


@pytest.fixture(scope="session")
def mpi(tmp_path_factory):
    """Environment in which mpi4py uses the library whose mpirun is installed."""
    return usable_environment(tmp_path_factory.mktemp("mpi-library"))
