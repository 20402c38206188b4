"""A real Slurm with two nodes on this machine: munge, slurmctld, one slurmd per node.

Everything it writes lies in one folder; no system service and no file of the system is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.slurm.accounting import NO_ACCOUNTING, PROGRAMS, Accounting
from tests.slurm.slurm_nodes import (
    END_WITH_PARENT,
    NAMES,
    NamespaceNodes,
    PortNodes,
    can_make_namespaces,
    free_ports,
)

INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge iproute2"
_PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "setpriv")
_CLUSTER = "test"
_CPUS, _MEMORY_MIB, _GPUS = 4, 8000, 2
ENDED = ("CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

# Short waits, and what a usual cluster has: preemption by partition, requeueing, fake GPUs.
_SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}({address})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# The lifetime of credentials is also the time a requeued job waits (5 is the least that is taken).
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
ReturnToService=2
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
InactiveLimit=0
KillWait=5
SlurmdTimeout=6
MessageTimeout=4
TCPTimeout=2
SlurmctldTimeout=10
MinJobAge=600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{accounting}{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def missing_programs(needed: Sequence[str] = _PROGRAMS) -> list[str]:
    """Return the programs that a cluster needs and this machine lacks."""
    return [name for name in needed if shutil.which(name, path=_SYSTEM_PATH) is None]


class SlurmCluster:
    """A running cluster; use it as a context manager.

    Parameters
    ----------
    folder : Path
        Empty folder with a short path, on a disk that all nodes see.

    Attributes
    ----------
    nodes : NamespaceNodes or PortNodes
        How the nodes are made; ``nodes.local`` is a folder of each node's own.
    accounting : Accounting or None
        None where its programs are missing: then ``sacct`` does not answer.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.nodes = NamespaceNodes(folder) if can_make_namespaces() else PortNodes(folder)
        self.environment = os.environ | {
            "PATH": _SYSTEM_PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._user = subprocess.check_output(["id", "-un"], text=True).strip()
        self.accounting = None if missing_programs(PROGRAMS) else self._make_accounting()
        self._daemons: list[subprocess.Popen] = []

    def _make_accounting(self) -> Accounting:
        address = self.nodes.controller_address
        return Accounting(self.folder, socket.gethostname(), address, self._user)

    def __enter__(self) -> SlurmCluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.cancel_all()
        finally:
            self._stop()

    def call(self, *command: str, timeout_s: float = 20) -> str:
        """Run a Slurm command; return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """Return what ``scontrol show job`` says of a job."""
        shown = self.call("scontrol", "--oneliner", "show", "job", job_id).splitlines()[0]
        return dict(pair.partition("=")[::2] for pair in shown.split())

    def wait(
        self, job_id: str, reached: Callable[[dict[str, str]], bool], timeout_s: float = 120
    ) -> dict[str, str]:
        """Wait until a job is as asked for; return what `job` says then."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if reached(job):
                return job
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job_id} after {timeout_s} s: {job}\n{self.tail(job)}")
            time.sleep(0.1)

    def wait_for_end(self, job_id: str, timeout_s: float = 180) -> dict[str, str]:
        """Wait until a job has ended for good."""
        return self.wait(job_id, lambda job: job["JobState"] in ENDED, timeout_s)

    def tail(self, job: dict[str, str]) -> str:
        """Return the end of a job's output."""
        try:
            return Path(job["StdOut"]).read_text()[-6000:]
        except OSError as error:
            return str(error)

    def kill_node(self, name: str) -> None:
        """Let a node die without a good-bye."""
        self.nodes.kill(name)

    def revive_node(self, name: str) -> None:
        """Bring a killed node back and wait until Slurm uses it."""
        self._start_node(name)
        self._wait_for_nodes()

    @property
    def has_pmix(self) -> bool:
        """Whether ``srun --mpi=pmix`` finds its library (of libpmix-dev)."""
        asked = subprocess.run(
            ["srun", "--mpi=pmix", "--ntasks=1", "true"],
            env=self.environment,
            capture_output=True,
            timeout=20,
        )
        return asked.returncode == 0

    def cancel_all(self) -> None:
        """Cancel all jobs and wait until their processes are gone."""
        ids = self.call("squeue", "--noheader", "--format=%A").split()
        if ids:
            self.call("scancel", *sorted(set(ids)))
        deadline = time.monotonic() + 30
        while self.call("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.1)

    def _start(self) -> None:
        for name in ("state", "log"):
            (self.folder / name).mkdir()
        # Munge wants its socket, and slurmd its spool folder, reachable by all.
        self.folder.chmod(0o755)
        self.nodes.prepare()
        self._start_munge()
        self._write_configuration()
        if self.accounting is not None:
            self.accounting.start(self._daemon, self.call, _CLUSTER)
        self._daemon("slurmctld", "-D", "-c")
        for name in NAMES:
            self._start_node(name)
        self._wait_for_nodes()

    def _start_munge(self) -> None:
        key, munge_socket = self.folder / "munge.key", self.folder / "munge.socket"
        self.call("mungekey", "--create", f"--keyfile={key}")
        self._daemon(
            *("munged", "--foreground", f"--socket={munge_socket}", f"--key-file={key}"),
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'log' / 'munged.log'}",
            f"--seed-file={self.folder / 'munged.seed'}",
        )
        _wait_until(munge_socket.exists, "munged did not start")

    def _write_configuration(self) -> None:
        folder = self.folder
        nodes = [
            f"NodeName={name} {self.nodes.describe(name)} CPUs={_CPUS} RealMemory={_MEMORY_MIB} "
            f"Gres=gpu:{_GPUS}"
            for name in NAMES
        ]
        (folder / "slurm.conf").write_text(
            _SLURM_CONF.format(
                host=socket.gethostname(),
                address=self.nodes.controller_address,
                port=free_ports(1)[0],
                cluster=_CLUSTER,
                user=self._user,
                folder=folder,
                accounting=self.accounting.settings if self.accounting else NO_ACCOUNTING,
                nodes="\n".join(nodes),
            )
        )
        # A GPU without a device file is counted as none; each needs a file of its own.
        for number in range(_GPUS):
            (folder / f"gpu{number}").symlink_to("/dev/null")
        (folder / "gres.conf").write_text(
            f"NodeName={','.join(NAMES)} Name=gpu File={folder}/gpu[0-{_GPUS - 1}]\n"
        )
        (folder / "cgroup.conf").touch()
        # PMIx's files have the same names on all nodes.
        (folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={self.nodes.local}\n")

    def _daemon(self, *command: str) -> None:
        with (self.folder / "log" / f"{command[0]}.out").open("w") as log:
            self._daemons.append(
                subprocess.Popen(
                    [*END_WITH_PARENT, *command], env=self.environment, stdout=log, stderr=log
                )
            )

    def _start_node(self, name: str) -> None:
        command = ["env", f"PATH={_SYSTEM_PATH}", f"SLURM_CONF={self.folder}/slurm.conf"]
        log = self.folder / "log" / f"slurmd-{name}.out"
        self.nodes.start(name, [*command, "slurmd", "-D", "-N", name], log)

    def _wait_for_nodes(self) -> None:
        def all_idle() -> bool:
            command = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"]
            shown = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=20
            )
            return shown.stdout.split() == ["idle"] * len(NAMES)

        try:
            _wait_until(all_idle, "the nodes did not become idle")
        except TimeoutError as error:
            logs = sorted((self.folder / "log").iterdir())
            ends = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)
            raise TimeoutError(f"{error}\n{ends}") from None

    def _stop(self) -> None:
        self.nodes.stop()
        # munged last: the others need it to say good-bye.
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _wait_until(reached: Callable[[], bool], problem: str, timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.05)
