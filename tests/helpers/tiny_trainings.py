"""Tiny trainings that the distributed tests start, and what they compare."""

import json
import time

from safetensors.torch import load_file

from eeg2fmri_dist.inference.weights import resolve_weights

EPOCHS = 12
CAE = ("cae", "model.widths=[8,16]", "model.d_token=8", "optimization.batch_size=40")
TRANSFORMER = ("transformer", "model.d_model=16", "data.window=16", "optimization.batch_size=6")
UNET = ("unet", "model.widths=[8,16]", "model.d_eeg=8", "data.window=16", "data.context=4")


def arguments(folder, name, kind, *overrides):
    """Return launch/train.py's arguments for a training of one of the kinds above."""
    model, *model_overrides = kind
    tokens = "tokenizer={name: principal_components, d_token: 4}"
    return [
        f"configs/train/{model}.yaml",
        f"store={folder / 'store.h5'}",
        f"output={folder / name}",
        f"optimization.epochs={EPOCHS}",
        *model_overrides,
        *([tokens] if model == "transformer" else []),
        *overrides,
    ]


def command(folder, name, kind, *overrides):
    """Return the command of a training."""
    return ["launch/train.py", *arguments(folder, name, kind, *overrides)]


def broken(fault, folder, name, kind, *overrides):
    """Return the command of a training with a planted fault."""
    script = "tests/distributed/broken_training.py"
    return [script, fault, *arguments(folder, name, kind, *overrides)]


def wait_for_epochs(run, count, processes, timeout_s=240):
    """Wait until a run's log has so many epochs; fail with its output where it ended before."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        log = run / "log.jsonl"
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        if all(process.poll() is not None for process in processes):
            output = "\n".join(process.communicate()[0] for process in processes)
            raise AssertionError(f"{run} ended before epoch {count}\n{output}")
        time.sleep(0.05)
    raise AssertionError(f"{run} did not reach epoch {count}")


def losses(run):
    """Return (epoch, step, training loss, validation loss) of each epoch."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(r["epoch"], r["step"], r["train/loss_epoch"], r["validation/loss"]) for r in records]


def assert_same_run(run, other):
    """Fail unless losses and final weights are equal bit for bit."""
    assert losses(run) == losses(other)
    ours, theirs = (load_file(resolve_weights(r, "latest")) for r in (run, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] == theirs[name]).all(), name
