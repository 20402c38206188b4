"""Tiny trainings, and what is compared of them."""

import json
import shlex
import sys
from pathlib import Path

from safetensors.torch import load_file

from eeg2fmri_dist.inference.weights import resolve_weights
from tests.helpers.repository import ROOT

EPOCHS = 24


def training(folder, name, *overrides):
    """Return config and overrides of a tiny Transformer training into ``folder/name``."""
    return [
        "configs/train/transformer.yaml",
        f"store={folder / 'store.h5'}",
        f"output={folder / name}",
        "tokenizer={name: principal_components, d_token: 4}",
        "model.d_model=16",
        "data.window=16",
        "optimization.batch_size=6",
        f"optimization.epochs={EPOCHS}",
        *overrides,
    ]


def submit(slurm, folder, *arguments, options=(), batch="train", environment=()):
    """Submit a batch file from the repository, as a user does; return the job id."""
    settings = {"PYTHON": shlex.quote(sys.executable), "OMP_NUM_THREADS": "1"}
    settings["PREFLIGHT"] = "0"
    settings |= {} if slurm.nodes.separate else {"MASTER_ADDR": "127.0.0.1"}
    settings |= dict(environment)
    return slurm.call(
        *("env", f"--chdir={ROOT}", *(f"{name}={value}" for name, value in settings.items())),
        *("sbatch", "--parsable", f"--output={folder}/%x-%j.out"),
        *("--nodes=2", "--cpus-per-task=1", *options, f"slurm/{batch}.sbatch", *arguments),
    )


def epochs_done(run):
    """Return the number of epochs in a run's log."""
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def losses(run):
    """Return step and losses of each epoch, as logged."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(r["epoch"], r["step"], r["train/loss_epoch"], r["validation/loss"]) for r in records]


def assert_same_run(run, other):
    """Fail unless two runs have the same losses and the same final weights, bit for bit."""
    assert losses(run) == losses(other)
    assert losses(run)
    ours, theirs = (load_file(resolve_weights(each, "latest")) for each in (run, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] == theirs[name]).all(), name


def task_processes(job_id, verb="train"):
    """Return the process of each task of a job, by SLURM_PROCID."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"launch/{verb}.py".encode() not in (place / "cmdline").read_bytes():
                continue
            environment = (place / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        variables = dict(pair.partition("=")[::2] for pair in environment)
        is_task = variables.get("SLURM_STEP_ID", "").isdigit()
        if is_task and variables.get("SLURM_JOB_ID") == job_id:
            found[variables["SLURM_PROCID"]] = int(place.name)
    return found


def was_sent(number, pid):
    """Tell whether a stopped process has been sent a signal, and may have left for it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return True
    pending = next(line for line in status if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)
