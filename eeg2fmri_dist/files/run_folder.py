"""The run folder: what was asked for, what it was made from, whether it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from eeg2fmri_dist.config import load_resolved, to_yaml
from eeg2fmri_dist.config.names import former_names
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.files.atomic import write_json, write_text
from eeg2fmri_dist.files.made_from import differences, shown
from eeg2fmri_dist.files.provenance import collect_provenance

# Where and with how many hands a run is done does not change what it is.
_EXECUTION_KEYS = (
    "output",
    "world_size",
    "threads",
    "checkpoints.",
    "watchdog.",
    "monitor.",
    "data.cache",
    "engine.zero_stage",
    "engine.gradient_accumulation",
    "engine.offload_optimizer",
    "engine.offload_parameters",
    "engine.activation_checkpointing",
    "engine.fused_adam",
    "engine.compile",
    "engine.channels_last",
)
_CONFIG, _PROVENANCE, _FINISHED = "config.yaml", "provenance.json", "finished.json"
_SKIPPED = "skipped_batches.json"


def claim_run(config: TrainConfig, inputs: dict[str, str]) -> None:
    """Make the run folder, or check that an existing one is of the same run.

    Parameters
    ----------
    config : TrainConfig
        What is asked for now.
    inputs : dict
        What it is made from (fingerprints), such as ``{"store": "ab12..."}``.

    Raises
    ------
    ConfigError
        If the folder holds a run with another config; the difference is shown.
    DataError
        If its run was made from another store or tokenizer.
    """
    folder = config.output
    check_folder(config, inputs)
    if (folder / _CONFIG).exists():
        return
    write_json(folder / _PROVENANCE, collect_provenance() | {"inputs": inputs})
    write_text(folder / _CONFIG, to_yaml(config))


def check_folder(config: TrainConfig, inputs: dict[str, str]) -> None:
    """Refuse a folder that another run has claimed (see `claim_run`)."""
    if (config.output / _CONFIG).exists():
        check_run(config, inputs)


def check_run(config: TrainConfig, inputs: dict[str, str]) -> None:
    """Refuse a run folder of another config or of other inputs (see `claim_run`)."""
    folder = config.output
    # Through the schema, so that keys which did not exist then have their defaults.
    stored, wanted = _comparable(load_run_config(folder)), _comparable(config)
    changes = [
        f"{key}: {old!r} there, {new!r} now"
        for key, old, new in differences(stored, wanted)
        if not key.startswith(_EXECUTION_KEYS)
    ]
    if changes:
        raise ConfigError(
            "the run folder holds a run with another config (" + "; ".join(changes) + ")",
            where=folder,
            remedy="give another output=..., or delete the folder to begin again",
        )
    recorded = _read_json(folder / _PROVENANCE).get("inputs", {})
    made_from = {former_names.INPUTS.get(name, name): value for name, value in recorded.items()}
    for name, old, new in differences({name: made_from.get(name) for name in inputs}, inputs):
        raise DataError(
            f"the run was made from another {name} (fingerprint {shown(old)} there, "
            f"{shown(new)} now)",
            where=folder,
            remedy=f"restore that {name}, give another output=..., or delete the folder to "
            "begin again",
        )


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """Resolved values; paths of inputs are absolute, however they were written."""
    values = yaml.safe_load(to_yaml(config))
    for key in ("store", "tokenizer"):
        if isinstance(values[key], str):
            values[key] = str(Path(values[key]).resolve())
    if values["model"].get("skip_from"):
        values["model"]["skip_from"] = str(Path(values["model"]["skip_from"]).resolve())
    if values["model"].get("members"):
        values["model"]["members"] = [
            str(Path(run).resolve()) for run in values["model"]["members"]
        ]
    return values


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the run folder is damaged ({error})",
            where=path,
            remedy="give another output=..., or delete the folder to begin again",
        ) from None


def is_finished(config: TrainConfig, inputs: dict[str, str]) -> bool:
    """Tell whether the run folder holds this very run, done."""
    if not (config.output / _FINISHED).exists():
        return False
    check_run(config, inputs)
    return True


def mark_finished(folder: Path, summary: dict[str, Any]) -> None:
    """Record that a run is done."""
    write_json(folder / _FINISHED, summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what `mark_finished` recorded; empty for a run that is not done."""
    return _read_json(folder / _FINISHED) if (folder / _FINISHED).exists() else {}


def read_skipped(folder: Path) -> set[tuple[int, int]]:
    """Return (epoch, windows consumed) of the batches that broke the training before."""
    path = folder / _SKIPPED
    return {(epoch, consumed) for epoch, consumed in _read_json(path)} if path.exists() else set()


def write_skipped(folder: Path, batches: set[tuple[int, int]]) -> None:
    """Record batches that are left out from now on (see `read_skipped`)."""
    write_json(folder / _SKIPPED, sorted(batches))


def load_run_config(folder: Path) -> TrainConfig:
    """Return the resolved config of a run folder.

    Raises
    ------
    DataError
        If the folder is not a run folder.
    """
    path = folder / _CONFIG
    if not path.exists():
        raise DataError(
            "not a run folder (it has no config.yaml)",
            where=folder,
            remedy="give the output folder of launch/train.py",
        )
    return load_resolved(TrainConfig, path)
