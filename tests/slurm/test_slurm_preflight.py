"""--preflight on two nodes: it agrees with a sound cluster and names the node that differs."""

import shutil

import pytest

from tests.helpers.stores import make_store
from tests.slurm.slurm_trainings import submit, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preflight")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


def run(slurm, folder, *overrides):
    name = "run"
    job_id = submit(
        *(slurm, folder, *training(folder, name, *overrides), "--preflight"),
    )
    job = slurm.wait_for_end(job_id)
    return job["ExitCode"], slurm.tail(job)


def test_a_sound_cluster_passes(slurm, folder):
    code, output = run(slurm, folder)
    assert code == "0:0", output
    assert "2 rank(s) on" in output
    assert "all-reduce:" in output
    assert not (folder / "run").exists()


def test_a_folder_that_is_not_shared_names_the_node(slurm, folder):
    if not slurm.nodes.separate:
        pytest.skip("nodes share all folders without namespaces (needs root)")
    code, output = run(slurm, folder, f"output={slurm.nodes.local}/run")
    assert code == "4:0", output
    assert "rank 1 on n2: does not see what the first rank wrote" in output
    assert "Traceback" not in output


def test_another_store_on_one_node_names_it(slurm, folder):
    if not slurm.nodes.separate:
        pytest.skip("nodes share all folders without namespaces (needs root)")
    other = make_store(folder / "other.h5", n_subjects=4, n_volumes=40, seed=3)
    for node, store in {"n1": folder / "store.h5", "n2": other}.items():
        shutil.copy(store, slurm.folder / "local" / node / "store.h5")
    code, output = run(slurm, folder, f"store={slurm.nodes.local}/store.h5")
    assert code == "4:0", output
    assert "n2: the store is" in output
