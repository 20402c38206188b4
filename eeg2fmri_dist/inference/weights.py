"""Files of a checkpoint: sealed with a manifest, found again, checked.

A manifest holds the size and SHA-256 of every file and is written last. ``latest`` and ``best``
beside the checkpoints are text files that name one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from eeg2fmri_dist.errors import CheckpointError
from eeg2fmri_dist.files.atomic import flush_to_disk, write_json

logger = logging.getLogger(__name__)

FileRecord = dict[str, int | str]  # size and sha256

WEIGHTS = "model.safetensors"
STATE = "state.json"
_MANIFEST = "manifest.json"


def find_newest(folder: Path) -> str | None:
    """Return the name of the newest checkpoint whose files are all as they were written."""
    latest = read_pointer(folder, "latest")
    names = sorted((path.name for path in folder.glob("step-*")), reverse=True)
    if latest in names:
        names.remove(latest)
        names.insert(0, latest)
    for name in names:
        problem = find_damage(folder / name)
        if problem is None:
            return name
        logger.warning("checkpoint %s is damaged (%s); trying an older one", folder / name, problem)
    return None


def find_damage(checkpoint: Path) -> str | None:
    """Compare every file with the manifest; return what is wrong, None if nothing is."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
        expected = {name: (record["size"], record["sha256"]) for name, record in manifest.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its manifest cannot be read"
    absent = [name for name in _needed(expected) if name not in expected]
    if absent:
        return f"its manifest does not list {absent[0]}"
    for name, (size, sha256) in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or _sha256(path) != sha256:
            return f"{name} differs from what was written"
    return None


def training_file(rank: int, world_size: int) -> str:
    """Return the name of the file in which one rank saves its share of the training state."""
    return f"training-{rank:05d}-of-{world_size:05d}.safetensors"


def _needed(listed: Iterable[str]) -> list[str]:
    """Names that a whole checkpoint has, its number of ranks taken from one of them."""
    sizes = [re.fullmatch(r"training-\d+-of-(\d+)\.safetensors", name) for name in listed]
    world_size = max((int(found.group(1)) for found in sizes if found), default=1)
    return [WEIGHTS, STATE, *(training_file(rank, world_size) for rank in range(world_size))]


def resolve_weights(run: Path, which: str) -> Path:
    """Return the weights file of a run: ``best``, ``latest`` or a checkpoint's name.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged.
    """
    if not run.is_dir():
        raise CheckpointError(
            "no such run folder", where=run, remedy="give a run folder of launch/train.py"
        )
    folder = run / "checkpoints"
    names = sorted(path.name for path in folder.glob("step-*"))
    if not names:
        raise CheckpointError(
            "the folder holds no checkpoint",
            where=run,
            remedy="give a run folder of launch/train.py that has saved one",
        )
    name = read_pointer(folder, which) if which in ("best", "latest") else which
    if name not in names:
        raise CheckpointError(
            f"no checkpoint {which!r}",
            where=run,
            remedy=f"choose from best, latest, {', '.join(names)}",
        )
    problem = find_damage(folder / name)
    if problem is not None:
        raise CheckpointError(
            f"damaged: {problem}",
            where=folder / name,
            remedy="choose another checkpoint, or run launch/train.py again",
        )
    return folder / name / WEIGHTS


def locate_weights(path: Path, which: str) -> Path:
    """Return the weights of a run folder, of an exported model, or of a file.

    Parameters
    ----------
    path : Path
        Run folder of `launch/train.py`, folder of `launch/export.py`, or a ``.safetensors`` file.
    which : str
        Of a run folder: ``best``, ``latest`` or a checkpoint's name.

    Raises
    ------
    CheckpointError
        If there are none, if they are damaged, or if it is a file of another kind.
    """
    if path.is_dir() and not (path / WEIGHTS).is_file():
        return resolve_weights(path, which)
    weights = path / WEIGHTS if path.is_dir() else path
    if weights.is_file() and weights.suffix != ".safetensors":
        raise CheckpointError(
            "not a .safetensors file; formats that can run code when they are read (pickle, .pt, "
            ".pth, .bin, .ckpt) are never opened",
            where=weights,
            remedy="give model.safetensors, as launch/export.py writes it",
        )
    if not weights.is_file():
        raise CheckpointError(
            "no such model",
            where=path,
            remedy="give a run folder of launch/train.py, or a folder of launch/export.py",
        )
    recorded = _recorded_sha256(weights)
    if recorded is not None and recorded != _sha256(weights):
        raise CheckpointError(
            f"damaged: {weights.name} differs from what was written",
            where=path,
            remedy="fetch or export the model again",
        )
    return weights


def record_file(path: Path) -> FileRecord:
    """Flush a file to the disk and return what a manifest says of it."""
    flush_to_disk(path)
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def write_manifest(folder: Path, records: dict[str, FileRecord]) -> None:
    """Seal a checkpoint: from now on its files can be checked."""
    write_json(folder / _MANIFEST, records)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pointer(folder: Path, pointer: str) -> str | None:
    """Return the checkpoint that ``latest`` or ``best`` names; None if there is none."""
    try:
        return (folder / pointer).read_text().strip()
    except OSError:
        return None


def weights_sha256(weights: Path) -> str:
    """Return the SHA-256 of weights, from the manifest beside them where there is one."""
    return _recorded_sha256(weights) or _sha256(weights)


def _recorded_sha256(weights: Path) -> str | None:
    try:
        manifest = json.loads((weights.parent / _MANIFEST).read_text(encoding="utf-8"))
        return str(manifest[weights.name]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
