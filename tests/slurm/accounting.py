"""Accounting for the test cluster: a private MariaDB and the daemon that Slurm speaks with."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.slurm.slurm_nodes import free_ports

INSTALL = "slurmdbd mariadb-server-core mariadb-client-core"
PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db", "mariadb")

# Clients of slurmdbd take munge's socket from AccountingStoragePass, not from AuthInfo.
_CLUSTER_SIDE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
"""
NO_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
"""
_DAEMON_SIDE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr={address}
DbdPort={port}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""
_GRANTS = (
    "create database slurm_acct_db; create user slurm@'%' identified by 'slurm'; "
    "grant all on slurm_acct_db.* to slurm@'%'"
)


class Accounting:
    """Where a cluster writes down its jobs, so that ``sacct`` tells how each one ended.

    Parameters
    ----------
    folder : Path
        The cluster's.
    host, address, user : str
        This machine's name, its address on the nodes' network, and who runs the daemons.
    """

    def __init__(self, folder: Path, host: str, address: str, user: str):
        self._folder = folder
        self._socket = folder / "database.socket"
        self._port, self._database_port = free_ports(2)
        self._values = {
            "folder": folder,
            "host": host,
            "address": address,
            "user": user,
            "port": self._port,
            "database_port": self._database_port,
        }

    @property
    def settings(self) -> str:
        """Lines of slurm.conf."""
        return _CLUSTER_SIDE.format(**self._values)

    def start(self, daemon: Callable[..., None], call: Callable[..., str], cluster: str) -> None:
        """Start the database, then slurmdbd, and make the cluster known; munge must run.

        Parameters
        ----------
        daemon, call : callable
            Start a program that stays; run one that ends, and return what it prints.
        cluster : str
            Its name.
        """
        self._start_database(daemon, call)
        configuration = self._folder / "slurmdbd.conf"
        configuration.write_text(_DAEMON_SIDE.format(**self._values))
        configuration.chmod(0o600)
        daemon("slurmdbd", "-D")
        _until_it_answers(call, ("sacctmgr", "--noheader", "--immediate", "list", "cluster"))
        call("sacctmgr", "--immediate", "add", "cluster", cluster)

    def _start_database(self, daemon: Callable[..., None], call: Callable[..., str]) -> None:
        data, user = self._folder / "database", self._values["user"]
        call(
            *("mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
            "--skip-name-resolve",
            timeout_s=60,
        )
        daemon(
            *("mariadbd", "--no-defaults", f"--user={user}", f"--datadir={data}"),
            *(f"--socket={self._socket}", f"--pid-file={self._folder / 'database.pid'}"),
            *(f"--port={self._database_port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
            *("--skip-log-bin", "--innodb-buffer-pool-size=64M"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"),
        )
        client = ("mariadb", "--no-defaults", f"--socket={self._socket}", "--user=root")
        _until_it_answers(call, (*client, "--execute=select 1"))
        call(*client, f"--execute={_GRANTS}")


def _until_it_answers(
    call: Callable[..., str], question: Sequence[str], timeout_s: float = 60
) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            call(*question, timeout_s=5)
            return
        except (AssertionError, subprocess.TimeoutExpired):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
