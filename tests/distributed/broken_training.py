"""Run launch/train.py with one planted fault: broken_training.py FAULT [train.py's arguments].

Faults happen at step 5, on rank 1 where there are two, in training code that is otherwise as it is;
dirty memory is everywhere.
"""

import os
import runpy
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.training.fitting import gradient
from eeg2fmri_dist.training.loop import Trainer
from eeg2fmri_dist.training.validation import Validator

FAULTY_STEP = 5
FAULTY_RANK = (os.environ.get("WORLD_SIZE") == "2" and "1") or "0"


def at_faulty_step(trainer):
    return trainer.progress.step == FAULTY_STEP and os.environ["RANK"] == FAULTY_RANK


def before_reading(act):
    """Do something before a batch is read at the faulty step."""
    read = Trainer.read

    def faulty_read(trainer, share):
        if at_faulty_step(trainer):
            act(trainer)
        return read(trainer, share)

    Trainer.read = faulty_read


def nan_data():
    read = Trainer.read

    def faulty_read(trainer, share):
        batch = read(trainer, share)
        first_time = not (trainer.config.output / "skipped_batches.json").exists()
        if at_faulty_step(trainer) and first_time:
            next(iter(batch.values()))[:] = float("nan")
        return batch

    Trainer.read = faulty_read


def nan_weight():
    """A weight turns to NaN after the step, when only the next loss would show it."""
    step = Trainer.agree_on_step

    def faulty(trainer, loss, norm):
        if at_faulty_step(trainer):
            with torch.no_grad():
                next(trainer.learner.objective.parameters()).view(-1)[0] = float("nan")
        step(trainer, loss, norm)

    Trainer.agree_on_step = faulty


def nan_gradient():
    def plant(trainer):
        parameter = next(trainer.learner.objective.parameters())
        parameter.register_hook(lambda gradient: gradient * float("nan"))

    before_reading(plant)


def dirty_memory():
    """Memory that nobody has written to holds the worst that it can."""
    empty = torch.empty

    def dirty(*arguments, **keywords):
        tensor = empty(*arguments, **keywords)
        return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

    torch.empty = dirty


def stall():
    before_reading(lambda trainer: time.sleep(1000))


def freeze():
    before_reading(lambda trainer: os.kill(os.getpid(), signal.SIGSTOP))


def die():
    before_reading(lambda trainer: os.kill(os.getpid(), signal.SIGKILL))


def slow_start():
    """Tell by a file that a start-up goes on, and take two seconds over it."""
    load = WindowData._load_bold

    def slow(data):
        if not Path(os.environ["MOMENT"]).exists():
            Path(os.environ["MOMENT"]).touch()
            time.sleep(2)
        return load(data)

    WindowData._load_bold = slow


def slow_validation():
    """Tell by a file that a validation goes on, and take a second over each recording."""
    score = Validator._score_segment

    def slow(validator, *arguments):
        Path(os.environ["MOMENT"]).touch()
        time.sleep(1)
        return score(validator, *arguments)

    Validator._score_segment = slow


def slow_save():
    """Tell by a file that a checkpoint is half written, and take a second to go on."""
    assemble = gradient.assemble

    def slow_assemble(*arguments):
        trainer = assemble(*arguments)
        write = trainer.archive.write_model

        def slow_write(path, *rest):
            path.write_bytes(b"half")
            Path(os.environ["MOMENT"]).touch()
            time.sleep(1)
            write(path, *rest)

        trainer.archive = replace(trainer.archive, write_model=slow_write)
        return trainer

    gradient.assemble = slow_assemble


if __name__ == "__main__":
    fault = sys.argv.pop(1)
    globals()[fault]()
    sys.argv[0] = "launch/train.py"
    runpy.run_path("launch/train.py", run_name="__main__")
