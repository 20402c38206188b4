"""Workers that are Slurm jobs of their own, as many as there is work for."""

from __future__ import annotations

import contextlib
import math
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import ClusterConfig
from eeg2fmri_dist.errors import LaunchError
from preprocessing.cluster.nodes import (
    MEETING_PREFIX,
    announce,
    check_folder,
    import_optional,
    meeting_place,
    scheduler_options,
)

if TYPE_CHECKING:
    from distributed import Client, Security

# Slurm's own limit unless cluster.job_options or SBATCH_TIMELIMIT says otherwise.
_WALLTIME = "04:00:00"


@contextlib.contextmanager
def client_of_jobs(
    config: ClusterConfig,
    folder: Path,
    n_steps: int,
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Iterator[Client]:
    """Start a scheduler here, and let it submit jobs with workers while there are steps to run.

    Parameters
    ----------
    config : ClusterConfig
        Its ``workers`` must be set.
    folder : Path
        Folder that all nodes see, for credentials (removed at the end) and logs of the jobs.
    n_steps : int
        No more workers than steps are asked for.
    environment : mapping
        Environment variables of the workers.
    settings : mapping
        Dask's configuration of the workers.

    Raises
    ------
    LaunchError
        If dask-jobqueue is missing, or Slurm refuses such jobs.
    """
    slurm = import_optional(
        "dask_jobqueue", kind="slurm-jobs", package="dask-jobqueue", extra="slurm"
    )
    from distributed import Client

    check_folder(folder)
    assert config.workers is not None, "the config is refused without"
    n_jobs = math.ceil(min(config.workers, n_steps) / config.job_workers)
    with meeting_place(folder / f"{MEETING_PREFIX}{secrets.token_hex(8)}") as security:
        names = {**environment, **_as_environment({**settings, **_tls_settings(security)})}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in names.items()]
        with (
            _cluster_class(slurm, _sbatch(config, folder / "jobs"))(
                cores=config.job_workers,
                processes=config.job_workers,
                memory=f"{config.job_workers * config.memory_gib} GiB",
                walltime=_WALLTIME,
                python=shlex.quote(sys.executable),
                protocol="tls://",
                security=security,
                scheduler_options=scheduler_options(config, security),
                worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
                job_script_prologue=exports,
                silence_logs=False,
            ) as cluster,
            Client(cluster) as client,
        ):
            announce(cluster, config)
            _check_submission(cluster.job_script(), _sbatch(config, folder / "jobs"))
            cluster.adapt(minimum_jobs=1, maximum_jobs=n_jobs)
            yield client


def _sbatch(config: ClusterConfig, logs: Path) -> list[str]:
    """The command that submits a job."""
    logs.mkdir(exist_ok=True)
    return ["sbatch", f"--output={logs.absolute()}/%x-%j.out", *config.job_options]


def _cluster_class(slurm: Any, sbatch: list[str]) -> Any:
    """A cluster whose job script holds nothing that a shell or sbatch could take apart."""
    base: Any = slurm.SLURMCluster

    class Job(base.job_cls):
        submit_command = shlex.join(sbatch)

    class Jobs(base):
        job_cls = Job

        def _get_worker_security(self, security: Security) -> None:
            """Nothing on the command line: workers read it from their environment."""

    return Jobs


def _check_submission(script: str, sbatch: list[str]) -> None:
    """Refuse what Slurm refuses; Dask would go on trying for ever, in silence."""
    try:
        tried = subprocess.run(
            [*sbatch, "--test-only"], input=script, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(
            f"cluster.name is slurm-jobs, but sbatch does not answer ({error})",
            remedy="start it where jobs are submitted, or set cluster.name to local",
        ) from None
    if tried.returncode != 0:
        raise LaunchError(
            f"sbatch refuses the jobs of the workers: {tried.stderr.strip()}",
            remedy="correct cluster.job_options, cluster.job_workers or cluster.memory_gib",
        )


def _tls_settings(security: Security) -> dict[str, str]:
    files = security.get_tls_config_for_role("worker")
    return {
        "distributed.comm.require-encryption": "True",
        "distributed.comm.tls.ca-file": files["ca_file"],
        "distributed.comm.tls.worker.cert": files["cert"],
    }


def _as_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Dask's settings as the environment variables that it reads."""
    return {
        "DASK_" + key.replace(".", "__").replace("-", "_").upper(): str(value)
        for key, value in settings.items()
    }
