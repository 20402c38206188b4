"""Start ranks as a launcher does: one process each, told by environment variables."""

import os
import socket
import subprocess
import sys

from tests.helpers.repository import ROOT


def start_ranks(command: list[str], world_size: int) -> list[subprocess.Popen]:
    """Start `world_size` processes of one training on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(world_size):
        environment = os.environ | {
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def finish(processes: list[subprocess.Popen], timeout_s: float = 240) -> tuple[list[int], str]:
    """Wait for all ranks; return their exit codes and joined output."""
    outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    return [process.returncode for process in processes], "\n".join(outputs)


def run_ranks(command: list[str], world_size: int) -> str:
    """Run ranks to the end; fail with their output unless all return 0."""
    codes, output = finish(start_ranks(command, world_size))
    assert codes == [0] * world_size, f"exit codes {codes}\n{output}"
    return output
