"""Trainings killed at many random moments: `make test-faults`.

Each is started again until it is finished, and must end with the losses and weights of a run that
was left alone.
"""

import contextlib
import random
import signal
import subprocess
import time

import pytest

from tests.helpers.rank_processes import finish, run_ranks, start_ranks
from tests.helpers.stores import make_store
from tests.helpers.tiny_trainings import (
    CAE,
    TRANSFORMER,
    UNET,
    assert_same_run,
    command,
    wait_for_epochs,
)

pytestmark = pytest.mark.faults

KINDS = {"cae": CAE, "transformer": TRANSFORMER, "unet": UNET}
SAVING = ("checkpoints.every_steps=1", "checkpoints.asynchronous=true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder):
    """Run each model once without disturbance; returns folders and durations."""
    durations = {}
    for name, kind in KINDS.items():
        began = time.monotonic()
        run_ranks(command(folder, f"undisturbed-{name}", kind, *SAVING), 2)
        durations[name] = time.monotonic() - began
    return durations


def kill_once(folder, run, kind, victims, number, delay_s, extra):
    """Start two ranks, send a signal to some of them after a while, wait for the end of all."""
    processes = start_ranks(command(folder, run.name, kind, *SAVING, *extra), 2)
    time.sleep(delay_s)
    for victim in victims:
        processes[victim].send_signal(number)
    if len(victims) < 2:
        end_the_other(processes[victims[0]], processes[1 - victims[0]], number)
    return finish(processes)


def end_the_other(victim, other, number):
    """Do what launchers do when a rank has gone: wait, SIGTERM, wait, SIGKILL."""
    victim.wait()
    # A signal stops both. A death is noticed at once, but not while ranks are starting.
    patience_s = 1 if number == signal.SIGKILL else 30
    for end in (other.terminate, other.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            other.wait(patience_s)
            return
        end()
        patience_s = 30


@pytest.mark.parametrize("seed", range(24))
def test_any_kill_at_any_moment_ends_in_the_same_run(folder, undisturbed, seed):
    chance = random.Random(seed)
    name = chance.choice(list(KINDS))
    victims = chance.choice([[0], [1], [0, 1]])
    number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
    run = folder / f"killed-{seed}"
    for _ in range(2):
        delay_s = chance.uniform(0, undisturbed[name])
        kill_once(folder, run, KINDS[name], victims, number, delay_s, ())
    run_ranks(command(folder, run.name, KINDS[name], *SAVING), 2)
    assert_same_run(run, folder / f"undisturbed-{name}")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", list(KINDS))
def test_each_model_stage_and_precision_stops_and_goes_on(folder, name, precision, stage):
    extra = [
        f"engine.zero_stage={stage}",
        f"engine.precision={precision}",
        "optimization.epochs=4",
        "optimization.ema_decay=0.9",
    ]
    straight, stopped = (f"{way}-{name}-{precision}-{stage}" for way in ("straight", "stopped"))
    run_ranks(command(folder, straight, KINDS[name], *extra), 2)
    processes = start_ranks(command(folder, stopped, KINDS[name], *extra), 2)
    wait_for_epochs(folder / stopped, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    finish(processes)
    run_ranks(command(folder, stopped, KINDS[name], *extra), 2)
    assert_same_run(folder / stopped, folder / straight)
