"""Shards -> the store, where the store does not hold them already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.files.made_from import read_record, why_stale
from preprocessing.job.shard_record import record_path
from preprocessing.job.shards import damage, same_file, shard_folder
from preprocessing.job.source_files import file_state
from preprocessing.job.summary import Row
from preprocessing.template.atlas import atlas_identity, load_atlases

_ABSENT = ("excluded", "failed")


def why_merge(rows: Sequence[Row], config: PreprocessConfig) -> str | None:
    """Return why the store must be merged anew; None = it holds these recordings as they are."""
    if not config.output.exists():
        return "there is no store yet"
    record = read_record(_merge_record_path(config))
    if not record:
        return "there is no record of how the store was made"
    changed = why_stale(_comparable(record["parts"]), _comparable(_parts(rows, config)))
    if changed is not None:
        return changed
    if not same_file(record["store"], file_state(config.output)):
        return damage(config.output, record["store"]["fingerprint"])
    return None


def merge_shards(rows: Sequence[Row], config: PreprocessConfig) -> None:
    """Merge the shards of these recordings, in this order, into the store.

    The store also tells which of them were excluded or failed, and why.

    Raises
    ------
    StoreError
        If a shard is damaged, which the next run then computes again, or shards do not fit.
    LaunchError
        If the disk is full.
    """
    from eeg2fmri_dist.store import Store

    shards = [shard_folder(config.output) / f"{key}.h5" for key in _present(rows)]
    try:
        _merge(shards, rows, config)
    except StoreError:
        _forget_damaged(shards)
        raise
    store = file_state(config.output)
    fingerprint = Store(config.output).fingerprint
    write_json(
        _merge_record_path(config),
        {
            "parts": _parts(rows, config),
            "store": {"size": store.size, "mtime_ns": store.mtime_ns, "fingerprint": fingerprint},
        },
    )


def _merge(shards: Sequence[Path], rows: Sequence[Row], config: PreprocessConfig) -> None:
    from eeg2fmri_dist.store import LeftOut, Store, merge

    atlases = load_atlases(config.atlas, config.bold.grid, Store(shards[0]).layout.mask)
    merge(shards, config.output, atlases, [LeftOut(*row) for row in _left_out(rows)])


def _forget_damaged(shards: Sequence[Path]) -> None:
    """Remove the records of shards that changed although size and time say that they did not."""
    from eeg2fmri_dist.store import verify

    for shard in shards:
        if verify(shard):
            record_path(shard).unlink(missing_ok=True)


def _present(rows: Sequence[Row]) -> list[str]:
    """Keys of the recordings that the store holds."""
    return [row.recording for row in rows if row.state not in _ABSENT]


def _left_out(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Key, state and reason of the others."""
    return [
        (row.recording, row.state, row.error or row.message) for row in rows if row.state in _ABSENT
    ]


def _parts(rows: Sequence[Row], config: PreprocessConfig) -> dict[str, Any]:
    """What the store is put together from."""
    folder = shard_folder(config.output)
    records = {key: read_record(record_path(folder / f"{key}.h5")) for key in _present(rows)}
    return {
        "shards": [[key, record["shard"]["fingerprint"]] for key, record in records.items()],
        "atlas": atlas_identity(config.atlas),
        "left_out": [list(row) for row in _left_out(rows)],
    }


def _comparable(parts: dict[str, Any]) -> dict[str, Any]:
    """The same by recording, so that a difference names it."""
    return {
        "recordings": [key for key, _ in parts["shards"]],
        "shard": dict(parts["shards"]),
        "region labels": parts.get("atlas"),
        "left out": {key: f"{state}: {why}" for key, state, why in parts.get("left_out", [])},
    }


def _merge_record_path(config: PreprocessConfig) -> Path:
    return shard_folder(config.output) / "merged.json"
