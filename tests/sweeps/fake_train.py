"""Behaves like launch/train.py without training: an epoch is a line of log.jsonl.

Every start, epoch and end is noted in ``history.jsonl`` of the run folder.
"""

import json
import math
import os
import signal
import sys
import time

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.train import TrainConfig

EPOCH_S = float(os.environ.get("FAKE_EPOCH_S", "0.05"))


def note(run, event, **more):
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps({"event": event, "pid": os.getpid(), **more}) + "\n")


def score(config, epoch):
    distance = math.log10(config.optimization.learning_rate) + 3
    return round(1 - distance**2 - 0.01 * config.optimization.warmup_fraction - 0.5 / epoch, 9)


def main():
    config = load_config(TrainConfig, sys.argv[1], sys.argv[2:])
    run = config.output
    run.mkdir(parents=True, exist_ok=True)
    if (run / "finished.json").exists():
        return 0
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    note(run, "start")
    log = run / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    for epoch in range(done + 1, config.optimization.epochs + 1):
        time.sleep(EPOCH_S)
        record = {"epoch": epoch, "step": epoch, "validation/r_region": score(config, epoch)}
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        note(run, "epoch", epoch=epoch)
        if config.optimization.learning_rate > 0.05:
            return 5
        if stopped:
            note(run, "stopped")
            return 75
    note(run, "end")
    (run / "finished.json").write_text("{}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
