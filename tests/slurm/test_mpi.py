"""Ranks started by mpirun, and by srun with PMI, train what Slurm's own ranks train."""

import re

import pytest

from tests.helpers.rank_processes import run_ranks
from tests.helpers.stores import make_store
from tests.slurm.mpirun import is_open_mpi, mpirun
from tests.slurm.slurm_trainings import assert_same_run, submit, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mpi")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


def short(folder, name):
    return training(folder, name, "optimization.epochs=3", "threads=1", "world_size=2")


@pytest.fixture(scope="module")
def reference(folder):
    run_ranks(["launch/train.py", *short(folder, "reference")], 2)
    return folder / "reference"


def test_mpirun_gives_the_same_training(mpi, folder, reference):
    done = mpirun(mpi, "launch/train.py", *short(folder, "mpirun"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rank(s) by mpi" in done.stderr
    assert_same_run(folder / "mpirun", reference)


@pytest.mark.parametrize("kind", ["pmi2", "pmix"])
def test_srun_with_pmi_gives_the_same_training(slurm, mpi, folder, reference, kind):
    if kind == "pmix" and not (is_open_mpi() and slurm.has_pmix and slurm.nodes.separate):
        pytest.skip("needs root, Open MPI as mpirun, and libpmix-dev")
    settings = {"MPI_TYPE": kind, "LD_LIBRARY_PATH": mpi.get("LD_LIBRARY_PATH", "")}
    job_id = submit(slurm, folder, *short(folder, kind), environment=settings)
    job = slurm.wait_for_end(job_id)
    assert job["JobState"] == "COMPLETED", slurm.tail(job)
    assert_same_run(folder / kind, reference)


def test_ranks_that_do_not_know_each_other_are_refused(mpi, folder):
    # As with mpi4py built for another MPI: it does not understand what mpirun tells it.
    strangers = "import os, runpy, sys; told = ('PMI_FD', 'PMI_RANK', 'PMIX_', 'OMPI_MCA_');"
    strangers += "[os.environ.pop(name) for name in list(os.environ) if name.startswith(told)];"
    strangers += "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    done = mpirun(mpi, "-c", strangers, "launch/train.py", *short(folder, "strangers"))
    assert done.returncode == 4, done.stdout + done.stderr
    assert re.search("mpirun started 2 ranks.*mpi4py uses another MPI", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (folder / "strangers").exists()


def test_more_ranks_than_tasks_names_the_likely_cause(slurm, folder):
    wanted = training(folder, "small-world", "world_size=3")
    job = slurm.wait_for_end(submit(slurm, folder, *wanted))
    assert job["ExitCode"] == "4:0"
    assert "3 ranks were asked for (world_size), 2 came up" in slurm.tail(job)
    assert "srun --ntasks=3" in slurm.tail(job)
