"""The cluster that the other tests of this folder stand on."""

import pytest


def test_two_nodes_run_a_job(slurm):
    hosts = slurm.call("srun", "--nodes=2", "--gpus-per-node=1", "printenv", "SLURMD_NODENAME")
    assert sorted(hosts.split()) == ["n1", "n2"]


def test_nodes_have_their_own_name_and_local_folder(slurm):
    if not slurm.nodes.separate:
        pytest.skip("nodes share a host name without namespaces (needs root)")
    script = f"cd {slurm.nodes.local}; touch mark-$(hostname); ls -d mark-*"
    shown = slurm.call("srun", "--nodes=2", "--label", "bash", "-c", script)
    assert sorted(shown.splitlines()) == ["0: mark-n1", "1: mark-n2"]


@pytest.mark.faults
def test_a_dead_node_is_noticed_and_its_job_requeued(slurm, tmp_path):
    output = tmp_path / "out"
    job_id = slurm.call(
        *("sbatch", "--parsable", "--requeue", "--nodes=2", f"--output={output}"),
        *("--wrap", "srun bash -c 'echo up; sleep 60'"),
    )
    slurm.wait(job_id, lambda _: output.exists() and output.read_text().count("up") == 2)
    slurm.kill_node("n2")
    try:
        slurm.wait(job_id, lambda job: job["Restarts"] == "1")
    finally:
        slurm.revive_node("n2")
    slurm.wait(job_id, lambda job: job["JobState"] == "RUNNING")
