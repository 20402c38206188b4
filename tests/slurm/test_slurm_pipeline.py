"""slurm/pipeline.sh: all stages in the queue at once, each waiting for what it needs."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.slurm.slurm_trainings import ROOT, task_processes


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    subprocess.run(
        [
            *(sys.executable, "launch/simulate.py", "configs/simulate/demo.yaml"),
            *(f"output={folder / 'recordings'}", "n_volumes=20", 'subjects=["32", "38", "43"]'),
        ],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    return folder


def write_configs(folder):
    """Write a config for each stage; return them in the order of a user's command."""
    store, base = str(folder / "store.h5"), str(ROOT / "configs")
    training = {
        "store": store,
        "optimization": {"epochs": 1},
        "data": {"window": 8, "stride": 4},
        "threads": 1,
    }
    small = {"widths": [8, 16], "d_token": 8}
    configs = {
        "preprocess": {
            "extends": f"{base}/preprocess/demo.yaml",
            "source": {"path": str(folder / "recordings")},
            "output": store,
            "bold": {"grid": [32, 32, 15]},
        },
        "transformer": training
        | {
            "extends": f"{base}/train/transformer.yaml",
            "output": str(folder / "transformer"),
            "tokenizer": str(folder / "cae"),
            "model": {"d_model": 16},
        },
        "cae": training
        | {
            "extends": f"{base}/train/cae.yaml",
            "output": str(folder / "cae"),
            "model": small,
            "data": {"window": 1, "stride": 1},
        },
        "evaluate": {
            "runs": [str(folder / "transformer"), str(folder / "cae")],
            "output": str(folder / "evaluation"),
        },
    }
    paths = []
    for name, values in configs.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(values))
    return paths


def submit_all(slurm, folder, *configs):
    """Run pipeline.sh; return the id of each config's job, and all that it printed."""
    options = f"--output={folder}/%x-%j.out"
    environment = slurm.environment | {
        "PYTHON": shlex.quote(sys.executable),
        "OMP_NUM_THREADS": "1",
        "PREPROCESS_OPTIONS": f"{options} --cpus-per-task=2 --mem-per-cpu=3G",
        "TRAIN_OPTIONS": options,
        "EVALUATE_OPTIONS": f"{options} --cpus-per-task=2",
        "PREFLIGHT": "0",
    }
    done = subprocess.run(
        ["slurm/pipeline.sh", *map(str, configs)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("\n\n")[0].splitlines()[1:]
    return {os.path.basename(line.split()[2]): line.split()[1] for line in table}, done.stdout


@pytest.mark.faults
def test_all_stages_run_in_their_order_though_one_is_cut(slurm, recordings):
    jobs, printed = submit_all(slurm, recordings, *write_configs(recordings))
    assert len(jobs) == 4
    assert "squeue --me" in printed
    cut = jobs["preprocess.yaml"]
    slurm.wait(cut, lambda _: task_processes(cut, "preprocess"))
    slurm.call("scancel", "--signal=USR1", cut)
    assert slurm.wait_for_end(cut)["Restarts"] == "1"
    for config, job_id in jobs.items():
        job = slurm.wait_for_end(job_id, timeout_s=280)
        assert job["JobState"] == "COMPLETED", (config, slurm.tail(job))
    scores = json.loads((recordings / "evaluation" / "metrics.json").read_text())
    assert scores
    assert (recordings / "evaluation" / "report.html").exists()


def test_what_waits_for_a_failed_stage_leaves_the_queue(slurm, tmp_path):
    configs = write_configs(tmp_path)
    jobs, _ = submit_all(slurm, tmp_path, configs[0], configs[2])
    assert slurm.wait_for_end(jobs["preprocess.yaml"])["ExitCode"] == "3:0"
    job = slurm.wait_for_end(jobs["cae.yaml"])
    assert job["JobState"] == "CANCELLED"


def test_a_training_waits_for_those_whose_run_folders_it_names(slurm, tmp_path):
    """Given in the wrong order; two of them wait for nothing."""
    store = {"store": str(tmp_path / "store.h5")}
    runs = {name: str(tmp_path / name) for name in ("ridge", "start", "both", "unet")}
    shipped = f"{ROOT}/configs/train"
    values = {
        "both": {
            "extends": f"{shipped}/ensemble.yaml",
            "model": {"members": [runs["ridge"], runs["start"]]},
        },
        "start": {
            "extends": f"{shipped}/transformer_from_ridge.yaml",
            "model": {"skip_from": runs["ridge"]},
        },
        "ridge": {"extends": f"{shipped}/ridge_quadratic.yaml"},
        "unet": {"extends": f"{shipped}/unet.yaml"},
    }
    configs = []
    for name, config in values.items():
        configs.append(tmp_path / f"{name}.yaml")
        configs[-1].write_text(yaml.safe_dump(config | store | {"output": runs[name]}))
    jobs, printed = submit_all(slurm, tmp_path, *configs)
    ids = {name: jobs[f"{name}.yaml"] for name in values}
    after = {
        os.path.basename(line.split()[2]).removesuffix(".yaml"): line.partition("(after ")[2]
        for line in printed.partition("\n\n")[0].splitlines()[1:]
    }
    slurm.call("scancel", *ids.values())
    assert after["ridge"] == after["unet"] == ""
    assert after["start"] == f"{ids['ridge']})"
    assert set(after["both"].rstrip(")").split(":")) == {ids["ridge"], ids["start"]}
