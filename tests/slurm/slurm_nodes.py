"""Two ways to have two Slurm nodes on one machine: namespaces (root), or one port per node.

With namespaces a node has its own host name, address, processes and node-local folder, and can be
killed as a whole, without a good-bye to anyone, as by a power cut. With ports a node is a `slurmd`
and whatever it started; the nodes share host name and network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("n1", "n2")
# What a killed test run leaves behind ends with it.
END_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_KEEP_NAMESPACE = "while :; do sleep 3600 & wait $!; done"
_NAMESPACES = ("--pid", "--net", "--uts", "--mount")
# Without a name server, a look-up that asks for one waits for 10 s.
_NO_DNS = "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n"


def can_make_namespaces() -> bool:
    """Tell whether this user may make network namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    done = subprocess.run(["unshare", *_NAMESPACES, "--fork", "true"], capture_output=True)
    return done.returncode == 0


def free_ports(count: int) -> list[int]:
    """Return TCP ports that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class NamespaceNodes:
    """Nodes that look like machines of their own, joined by a switch.

    Parameters
    ----------
    folder : Path
        For their files.

    Attributes
    ----------
    controller_address : str
        Address of this machine on their network.
    local : Path
        A folder that is another one on each node.
    """

    separate = True

    def __init__(self, folder: Path):
        self.folder, self.local = folder, folder / "node-local"
        self._net = _free_subnet()
        self.controller_address = f"{self._net}.1"
        self._holders: dict[str, subprocess.Popen] = {}
        self._started: list[subprocess.Popen] = []

    def prepare(self) -> None:
        """Make the network and the nodes."""
        self.local.mkdir()
        addresses = {name: f"{self._net}.{10 + i}" for i, name in enumerate(NAMES, 1)}
        named = {"localhost": "127.0.0.1", socket.gethostname(): self.controller_address}
        (self.folder / "hosts").write_text(
            "".join(f"{address} {name}\n" for name, address in (named | addresses).items())
        )
        (self.folder / "nsswitch.conf").write_text(_NO_DNS)
        self._holders["switch"] = subprocess.Popen(
            [*END_WITH_PARENT, "unshare", "--net", "sleep", "infinity"]
        )
        _wait_for_program(lambda: self._holders["switch"].pid, "sleep")
        self._on_switch("ip", "link", "add", "switch", "type", "bridge")
        self._on_switch("ip", "link", "set", "switch", "up")
        cable = f"slurm{os.getpid()}"
        self._plug_in(cable)
        _call("ip", "address", "add", f"{self.controller_address}/24", "dev", cable)
        _call("ip", "link", "set", cable, "up")
        for name in NAMES:
            self._make_node(name)

    def describe(self, name: str) -> str:
        """Return the part of a NodeName line that says where a node is."""
        return f"NodeHostname={name} NodeAddr={self._net}.{10 + int(name[1:])} Port=6818"

    def start(self, name: str, command: list[str], log: Path) -> None:
        """Start the daemon of a node."""
        if name not in self._holders:
            self._make_node(name)
        with log.open("a") as file:
            self._started.append(
                subprocess.Popen([*self._inside(name), *command], stdout=file, stderr=file)
            )

    def kill(self, name: str) -> None:
        """End all processes of a node and its network at once."""
        holder = self._holders.pop(name)
        os.kill(_first_child(holder.pid), signal.SIGKILL)
        holder.wait(10)

    def stop(self) -> None:
        """End what is left."""
        for name in [name for name in NAMES if name in self._holders]:
            self.kill(name)
        self._holders["switch"].kill()
        for process in [*self._started, self._holders.pop("switch")]:
            process.wait(10)

    def _make_node(self, name: str) -> None:
        make = ("unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc")
        self._holders[name] = holder = subprocess.Popen(
            [*END_WITH_PARENT, *make, "bash", "-c", _KEEP_NAMESPACE], stderr=subprocess.DEVNULL
        )
        _wait_for_program(lambda: _first_child(holder.pid), "bash")
        inside = self._inside(name)
        self._plug_in(f"to-{name}", _first_child(holder.pid), _mac_address(name))
        own = self.folder / "local" / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        for steps in (
            ("hostname", name),
            ("ip", "address", "add", f"{self._net}.{10 + int(name[1:])}/24", "dev", "cable"),
            ("ip", "link", "set", "cable", "up"),
            ("ip", "link", "set", "lo", "up"),
            # MPI looks into /sys for the node's network, slurmd for cgroups.
            ("mount", "--rbind", "/sys/fs/cgroup", str(self.local)),
            ("mount", "-t", "sysfs", "sysfs", "/sys"),
            ("mount", "--rbind", str(self.local), "/sys/fs/cgroup"),
            ("mount", "--bind", str(self.folder / "hosts"), "/etc/hosts"),
            ("mount", "--bind", str(self.folder / "nsswitch.conf"), "/etc/nsswitch.conf"),
            ("mount", "--bind", str(own), str(self.local)),
        ):
            _call(*inside, *steps)

    def _plug_in(self, port: str, namespace: int | None = None, mac: str = "") -> None:
        """Lay a cable from a port of the switch to a namespace, or to this machine."""
        switch = str(self._holders["switch"].pid)
        end = f"s-{port}"
        if namespace is None:
            _call("ip", "link", "add", port, "type", "veth", "peer", end, "netns", switch)
        else:
            self._on_switch(
                *("ip", "link", "add", end, "type", "veth"),
                *("peer", "cable", "address", mac, "netns", str(namespace)),
            )
        self._on_switch("ip", "link", "set", end, "master", "switch", "up")

    def _on_switch(self, *command: str) -> None:
        _call("nsenter", "--target", str(self._holders["switch"].pid), "--net", *command)

    def _inside(self, name: str) -> list[str]:
        return ["nsenter", "--target", str(_first_child(self._holders[name].pid)), *_NAMESPACES]


class PortNodes:
    """Nodes that are no more than a `slurmd` with a port of its own.

    Attributes and methods are those of `NamespaceNodes`.
    """

    separate = False
    controller_address = "127.0.0.1"

    def __init__(self, folder: Path):
        self.folder, self.local = folder, folder / "node-local"
        self._ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self._daemons: dict[str, subprocess.Popen] = {}

    def prepare(self) -> None:
        self.local.mkdir()

    def describe(self, name: str) -> str:
        host = socket.gethostname().partition(".")[0]
        return f"NodeHostname={host} NodeAddr=127.0.0.1 Port={self._ports[name]}"

    def start(self, name: str, command: list[str], log: Path) -> None:
        with log.open("a") as file:
            self._daemons[name] = subprocess.Popen(
                [*END_WITH_PARENT, *command], stdout=file, stderr=file
            )

    def kill(self, name: str) -> None:
        self._daemons[name].kill()
        self._daemons.pop(name).wait(10)
        for pid in _processes_of(self.folder, name):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for name in list(self._daemons):
            self.kill(name)


def _processes_of(folder: Path, name: str) -> list[int]:
    """Processes that a node's slurmd started: their environment names the cluster and the node."""
    signs = {f"SLURMD_NODENAME={name}".encode(), f"SLURM_CONF={folder}/slurm.conf".encode()}
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = set(place.read_bytes().split(b"\0"))
        except OSError:
            continue
        if signs <= environment:
            found.append(int(place.parent.name))
    return found


def _mac_address(name: str) -> str:
    """Address of a node's network card: a node that comes back is where the others knew it."""
    return f"02:00:00:00:00:{int(name[1:]):02x}"


def _free_subnet() -> str:
    taken = _call("ip", "-o", "address", "show")
    start = os.getpid() % 250
    candidates = (f"10.231.{(start + i) % 250}" for i in range(250))
    return next(net for net in candidates if f" {net}." not in taken)


def _wait_for_program(find_pid: Callable[[], int], program: str, timeout_s: float = 10) -> None:
    """Wait until `unshare` has made its namespaces and gone over to a program."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{find_pid()}/comm").read_text().strip() == program:
                return
        time.sleep(0.01)
    raise TimeoutError(f"no namespace with {program}")


def _first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
