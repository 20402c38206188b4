"""Logs of one JSON record per line, continued after a run was cut off."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from eeg2fmri_dist.config.names.former_names import current_score
from eeg2fmri_dist.files.atomic import write_text


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log, oldest first; an unfinished line is left out, null is NaN."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut off while it was written
        records.append(
            {
                current_score(key): math.nan if value is None else value
                for key, value in record.items()
            }
        )
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a record; numbers that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def drop_records_after(path: Path, step: int) -> None:
    """Remove the records of steps that a resumed run will do again."""
    if path.exists():
        kept = [record for record in read_records(path) if record["step"] <= step]
        write_text(path, "".join(_line(record) for record in kept))


def _line(record: dict[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(finite) + "\n"
