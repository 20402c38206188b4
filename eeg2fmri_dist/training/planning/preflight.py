"""Checks before a training: every rank has what all of them need, and they agree.

Each rank states facts about itself; the first rank compares them and names the node that differs.
"""

from __future__ import annotations

import collections
import datetime
import os
import platform
import shutil
import socket
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import LaunchError, StoreError
from eeg2fmri_dist.files.provenance import package_versions
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.distributed.ranks import Ranks, discover_ranks
from eeg2fmri_dist.training.planning.plan import checkpoint_bytes

_JOIN_TIMEOUT = datetime.timedelta(minutes=2)
_MAX_CLOCK_SKEW_S = 5.0
# One checkpoint is written beside those that are kept.
_CHECKPOINTS_TO_FIT = 3
_ALL_REDUCE_FLOATS = 2**22
_GIB = 2**30


@dataclass(frozen=True)
class Facts:
    """What one rank says of itself.

    Attributes
    ----------
    rank : int
    host : str
    device : str
        Name of the device, or what is wrong with it.
    device_works : bool
    clock_s : float
        Seconds since the epoch, read by all ranks at about the same moment.
    versions : dict
        Python and packages.
    store, store_error : str
        Fingerprint of the store; why it cannot be read.
    sees_first : bool
        Whether a file that the first rank wrote into the run folder is there.
    write_error : str
        Why this rank cannot write into the run folder; empty if it can.
    free_bytes : int
        Space left where the run folder is.
    sum_error : str
        What is wrong with the all-reduce; empty if nothing is.
    """

    rank: int
    host: str
    device: str
    device_works: bool
    clock_s: float
    versions: dict[str, str]
    store: str
    store_error: str
    sees_first: bool
    write_error: str
    free_bytes: int
    sum_error: str = ""


def preflight(config: TrainConfig) -> None:
    """Check nodes, network and disks for a training (called on every rank); print what was found.

    Raises
    ------
    LaunchError
        On the first rank, if something is wrong; other ranks leave with the same exit code.
    """
    ranks = discover_ranks(config.world_size)
    _join(ranks)
    try:
        device = _device(ranks)
        bandwidth, sum_error = _all_reduce(ranks, device)
        own = _collect(config, ranks, device, sum_error)
        facts = _gather(own, ranks)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    problems = find_problems(facts, _bytes_needed(config, own))
    if ranks.is_first:
        print("\n".join(describe(facts, bandwidth)), flush=True)
        if problems:
            raise LaunchError(
                "preflight: " + "; ".join(problems),
                remedy="mend or avoid the node (sbatch --exclude=NODE), then submit again",
            )
    elif problems:
        raise SystemExit(LaunchError.exit_code)


def describe(facts: list[Facts], bandwidth: float | None) -> list[str]:
    """Return what a person wants to know of the ranks, a line each.

    Parameters
    ----------
    facts : list of Facts
        Of all ranks.
    bandwidth : float or None
        Of the all-reduce in GB/s; None with one rank.
    """
    per_host = collections.Counter(fact.host for fact in facts)
    devices = collections.Counter(fact.device for fact in facts)
    clocks = [fact.clock_s for fact in facts]
    lines = [
        f"preflight: {len(facts)} rank(s) on "
        + ", ".join(f"{host} ({count})" for host, count in per_host.items()),
        "  devices: " + ", ".join(f"{count} x {name}" for name, count in devices.items()),
        f"  clocks: {max(clocks) - min(clocks):.2f} s apart",
        f"  store: {facts[0].store[:12]}",
        f"  run folder: {facts[0].free_bytes / _GIB:.1f} GiB free",
    ]
    if bandwidth is not None:
        lines.append(f"  all-reduce: {bandwidth:.2f} GB/s")
    return lines


def find_problems(facts: list[Facts], bytes_needed: int) -> list[str]:
    """Compare what ranks said; return one sentence a problem, with the node's name."""
    problems = [
        f"rank {fact.rank} on {fact.host}: {text}" for fact in facts for text in _own_problems(fact)
    ]
    problems += _clock_problems(facts)
    problems += _differences("the store is", {f.host: f.store for f in facts if f.store})
    kinds = {f.host: "CPU" if f.device == "CPU" else "GPU" for f in facts if f.device_works}
    problems += _differences("it computes on", kinds)
    problems += _version_problems(facts)
    least = min(facts, key=lambda fact: fact.free_bytes)
    if least.free_bytes < bytes_needed:
        problems.append(
            f"{least.host}: {least.free_bytes / _GIB:.1f} GiB free for the run folder, "
            f"checkpoints need {bytes_needed / _GIB:.1f}"
        )
    return list(dict.fromkeys(problems))


def _own_problems(fact: Facts) -> list[str]:
    problems = []
    if not fact.device_works:
        problems.append(fact.device)
    if fact.store_error:
        problems.append(f"cannot read the store ({fact.store_error})")
    if fact.write_error:
        problems.append(f"cannot write into the run folder ({fact.write_error})")
    if not fact.sees_first:
        problems.append("does not see what the first rank wrote: the run folder is not shared")
    if fact.sum_error:
        problems.append(fact.sum_error)
    return problems


def _clock_problems(facts: list[Facts]) -> list[str]:
    median = statistics.median(fact.clock_s for fact in facts)
    return [
        f"{fact.host}: its clock is {fact.clock_s - median:+.0f} s off"
        for fact in facts
        if abs(fact.clock_s - median) > _MAX_CLOCK_SKEW_S
    ]


def _version_problems(facts: list[Facts]) -> list[str]:
    names = sorted({name for fact in facts for name in fact.versions})
    return [
        problem
        for name in names
        for problem in _differences(
            f"{name} is", {f.host: f.versions.get(name, "missing") for f in facts}
        )
    ]


def _differences(what: str, by_host: dict[str, str]) -> list[str]:
    """Name the hosts that have another value than most, or than the first where there is a tie."""
    counted = collections.Counter(by_host.values()).most_common(1)
    return [
        f"{host}: {what} {value}, elsewhere {usual}"
        for usual, _ in counted
        for host, value in by_host.items()
        if value != usual
    ]


def _join(ranks: Ranks) -> None:
    """Join the other ranks by gloo, which needs no device."""
    if ranks.world_size == 1:
        return
    try:
        dist.init_process_group("gloo", timeout=_JOIN_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise LaunchError(
            f"rank {ranks.rank} on {socket.gethostname()} could not join the others at {place} "
            f"({str(error).splitlines()[0]})",
            remedy="a node may be down, a firewall in between, or the wrong network in use: set "
            "NETWORK_INTERFACE in slurm/site.env",
        ) from None


def _device(ranks: Ranks) -> torch.device | None:
    """Return this rank's device; None if there is none for it."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.local_rank >= torch.cuda.device_count():
        return None
    return torch.device("cuda", ranks.local_rank)


def _all_reduce(ranks: Ranks, device: torch.device | None) -> tuple[float | None, str]:
    """Add up numbers of all ranks as training does; return GB/s and what is wrong with the sum."""
    if ranks.world_size == 1 or not _everywhere(device is not None):
        return None, ""
    assert device is not None
    group = dist.new_group(backend="nccl") if device.type == "cuda" else None
    duration_s = 0.0
    for _ in range(2):  # the first one makes connections
        numbers = torch.full((_ALL_REDUCE_FLOATS,), float(ranks.rank + 1), device=device)
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(numbers, group=group)
        found = torch.stack([numbers.min(), numbers.max()]).tolist()
        duration_s = time.perf_counter() - began
    expected = ranks.world_size * (ranks.world_size + 1) / 2
    # Each rank sends and receives 2 (n - 1) / n times the data, whatever the algorithm.
    moved = 2 * (ranks.world_size - 1) / ranks.world_size * 4 * _ALL_REDUCE_FLOATS
    right = found == [expected, expected]
    return moved / duration_s / 1e9, "" if right else f"all-reduce gave {found}, not {expected}"


def _everywhere(condition: bool) -> bool:
    """Tell whether a condition holds on all ranks."""
    holds = torch.tensor(int(condition))
    dist.all_reduce(holds, op=dist.ReduceOp.MIN)
    return bool(holds)


def _collect(
    config: TrainConfig, ranks: Ranks, device: torch.device | None, sum_error: str
) -> Facts:
    name, works = _try_device(ranks, device)
    store, store_error = _read_store(config)
    sees_first, write_error = _try_folder(config.output, ranks)
    if ranks.world_size > 1:
        dist.barrier()
    return Facts(
        rank=ranks.rank,
        host=socket.gethostname(),
        device=name,
        device_works=works,
        clock_s=time.time(),
        versions={"python": platform.python_version(), **package_versions()},
        store=store,
        store_error=store_error,
        sees_first=sees_first,
        write_error=write_error,
        free_bytes=shutil.disk_usage(_existing(config.output)).free,
        sum_error=sum_error,
    )


def _try_device(ranks: Ranks, device: torch.device | None) -> tuple[str, bool]:
    if device is None:
        seen = torch.cuda.device_count()
        return f"no device: {ranks.local_size} ranks on this node, which shows {seen} GPUs", False
    if device.type == "cpu":
        return "CPU", True
    try:
        torch.ones(1024, device=device).sum().item()
    except RuntimeError as error:
        return f"{device} does not compute ({str(error).splitlines()[0]})", False
    return torch.cuda.get_device_name(device), True


def _read_store(config: TrainConfig) -> tuple[str, str]:
    try:
        return Store(config.store).fingerprint, ""
    except StoreError as error:
        return "", error.what


def _try_folder(folder: Path, ranks: Ranks) -> tuple[bool, str]:
    """Write a file, look for the one of the first rank, clean up; also where nothing is shared."""
    marks = folder.parent / f".{folder.name}.preflight"
    write_error = ""
    try:
        marks.mkdir(parents=True, exist_ok=True)
        (marks / str(ranks.rank)).touch()
    except OSError as error:
        write_error = error.strerror or str(error)
    _wait_for_all(ranks)
    # Listing the folder makes a network file system look again.
    sees_first = marks.is_dir() and "0" in {path.name for path in marks.iterdir()}
    _wait_for_all(ranks)
    shutil.rmtree(marks, ignore_errors=True)
    return sees_first, write_error


def _wait_for_all(ranks: Ranks) -> None:
    if ranks.world_size > 1:
        dist.barrier()


def _existing(folder: Path) -> Path:
    """Return the nearest folder above that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _gather(own: Facts, ranks: Ranks) -> list[Facts]:
    if ranks.world_size == 1:
        return [own]
    everyone: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(everyone, own)
    return everyone


def _bytes_needed(config: TrainConfig, own: Facts) -> int:
    return _CHECKPOINTS_TO_FIT * checkpoint_bytes(config) if own.store else 0
