"""A cluster in memory, whose jobs live, die and write logs when a test says so."""

import json
from pathlib import Path

from eeg2fmri_dist.sweep.jobs.submission import Handle

EPOCHS = 4


class DriverKilledError(Exception):
    """Stands for kill -9 of the driver."""


class FakeCluster:
    """Jobs that live, die and write logs when a test says so."""

    poll_s = 0.01

    def __init__(self):
        self.jobs, self.submissions, self.dies_in_submit = {}, [], False

    def submit(self, jobs, busy):
        for job in jobs:
            assert job.folder not in self.alive_folders(), "started twice at a time"
            self.jobs[job.folder] = job
            self.submissions.append((job.folder, job.attempt))
            job.folder.mkdir(parents=True, exist_ok=True)
        if self.dies_in_submit:
            self.dies_in_submit = False
            for job in jobs:  # nobody knows where they are found, and they end soon
                del self.jobs[job.folder]
            raise DriverKilledError
        return [Handle("fake", str(job.folder), "host", 0.0) for job in jobs]

    def alive_folders(self):
        return set(self.jobs)

    def alive(self, handles):
        return {folder for folder in handles if folder in self.jobs}

    def stop(self, handle):
        self.leave(Path(handle.job_id), 75)

    def account_of(self, handle):
        return None

    def leave(self, folder, code):
        job = self.jobs.pop(folder)
        if code is not None:
            (folder / f"outcome-{job.attempt}.json").write_text(json.dumps({"exit_code": code}))


def run_of(job_folder):
    return job_folder.parents[1] / "trials" / job_folder.name


def add_epoch(job_folder):
    run = run_of(job_folder)
    run.mkdir(parents=True, exist_ok=True)
    log = run / "log.jsonl"
    epoch = len(log.read_text().splitlines()) + 1 if log.exists() else 1
    value = ((int(job_folder.name) * 7) % 5) / 5 + epoch / 100
    with log.open("a") as file:
        file.write(json.dumps({"epoch": epoch, "step": epoch, "validation/r_region": value}) + "\n")
    return epoch


def act(cluster, event, job, deaths):
    if event == "epoch":
        if add_epoch(job) == EPOCHS:
            (run_of(job) / "finished.json").write_text("{}")
            cluster.leave(job, 0)
    elif event == "die":
        deaths[job.name] = deaths.get(job.name, 0) + 1
        cluster.leave(job, None)
    else:
        cluster.leave(job, {"stop": 75, "diverge": 5}[event])
