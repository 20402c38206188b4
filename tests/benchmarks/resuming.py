"""Cost of stopping and going on: time to the first step, bytes of a checkpoint."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path

from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.benchmarks.measuring import Measurement, quartiles
from tests.benchmarks.trainings import GRID, ROOT
from tests.helpers.rank_processes import finish, start_ranks
from tests.helpers.stores import make_store
from tests.helpers.tiny_trainings import wait_for_epochs


def time_to_first_step() -> Measurement:
    """Seconds from the command to the end of the first step after a resume (default CAE)."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        command = _command(folder)
        _stop_after_epochs(command, folder / "run", 1)
        times = []
        for epochs in (2, 3, 4):
            began = time.time()
            _stop_after_epochs(command, folder / "run", epochs)
            times.append(_first_step_after(folder / "run", began))
    return Measurement(
        value=sorted(times)[1],
        unit="s",
        against="-",
        spread=quartiles(times),
        notes=["start of Python, imports, data, model and checkpoint included"],
    )


def bytes_per_checkpoint() -> Measurement:
    """Bytes of a checkpoint over the bytes of what the next step depends on."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        _stop_after_epochs(_command(folder), folder / "run", 1)
        checkpoint = next((folder / "run" / "checkpoints").glob("step-*"))
        written = sum(path.stat().st_size for path in checkpoint.iterdir())
        with safe_open(checkpoint / "model.safetensors", framework="np") as file:
            weights = sum(
                file.get_tensor(name).nbytes
                for name in file.keys()  # noqa: SIM118
                if re.match("encoder|decoder", name)
            )
    state = 3 * weights  # weights and Adam's two moments
    return Measurement(
        value=written / state,
        unit="ratio",
        against="weights and two moments in fp32",
        target="<= 1.1",
        notes=[f"{written:,} bytes written for a state of {state:,} bytes, default CAE"],
    )


def _command(folder: Path) -> list[str]:
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40, grid=GRID)
    return [
        "launch/train.py",
        "configs/train/cae.yaml",
        f"store={folder / 'store.h5'}",
        f"output={folder / 'run'}",
    ]


def _stop_after_epochs(command: list[str], run: Path, epochs: int) -> None:
    os.environ["PYTHONPATH"] = str(ROOT)
    (process,) = start_ranks(command, 1)
    wait_for_epochs(run, epochs, [process])
    process.send_signal(signal.SIGTERM)
    (code,), output = finish([process])
    assert code == 75, output


def _first_step_after(run: Path, began: float) -> float:
    events = EventAccumulator(str(run)).Reload()
    times = [event.wall_time for event in events.Scalars("train/loss")]
    return min(time for time in times if time > began) - began
