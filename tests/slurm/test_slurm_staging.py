"""A store copied to the disks of two nodes before a training."""

import pytest

from eeg2fmri_dist.store import verify
from tests.helpers.stores import make_store
from tests.slurm.slurm_trainings import submit, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staging")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


def train_from(slurm, folder, name, scratch, **settings):
    settings |= {"NODE_SCRATCH": str(scratch)}
    wanted = training(folder, name, "optimization.epochs=1")
    job = slurm.wait_for_end(submit(slurm, folder, *wanted, environment=settings))
    output = slurm.tail(job)
    assert job["JobState"] == "COMPLETED", output
    return output


def test_each_node_gets_a_copy_by_mpi(slurm, mpi, folder):
    if not slurm.nodes.separate:
        pytest.skip("nodes share their disks without namespaces (needs root)")
    library = mpi.get("LD_LIBRARY_PATH", "")
    output = train_from(
        *(slurm, folder, "mpi", slurm.nodes.local / "scratch"),
        MPI_TYPE="pmi2",
        LD_LIBRARY_PATH=library,
        UCX_TLS="tcp,self",  # it takes two nodes of one machine for one node with shared memory
    )
    for node in ("n1", "n2"):
        assert f"{node}: the store is copied to" in output
        (copy,) = (slurm.folder / "local" / node / "scratch").iterdir()
        assert copy.read_bytes() == (folder / "store.h5").read_bytes()
        assert verify(copy) == []
    assert output.count("read once and broadcast") == 2
    assert "reading its copy in" in output


@pytest.mark.faults
def test_without_mpi_each_node_reads_for_itself(slurm, folder):
    output = train_from(slurm, folder, "alone", slurm.nodes.local / "other")
    assert output.count("read by this node (no MPI)") == 2


@pytest.mark.faults
def test_without_a_usable_disk_the_shared_store_is_read(slurm, folder):
    output = train_from(slurm, folder, "none", "/proc/nowhere")
    assert output.count("reading the shared one") == 2
