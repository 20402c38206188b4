"""A trained model to hand on: safetensors that hold no private paths, a model card, its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from eeg2fmri_dist.config.export import ExportConfig
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.evaluation.labels import MODELS, format_score
from eeg2fmri_dist.evaluation.metrics_file import (
    METRICS,
    ModelScores,
    find_scores,
    require_scores,
    to_json,
)
from eeg2fmri_dist.evaluation.results import ORIGINS
from eeg2fmri_dist.files.atomic import replacing, write_json, write_text
from eeg2fmri_dist.files.run_folder import load_run_config
from eeg2fmri_dist.inference.model_file import ModelCard, TrainedModel, load_model, save_model
from eeg2fmri_dist.inference.weights import (
    WEIGHTS,
    record_file,
    resolve_weights,
    weights_sha256,
    write_manifest,
)
from eeg2fmri_dist.models.build import count_parameters
from eeg2fmri_dist.pages.templates import render
from eeg2fmri_dist.scores.catalog import SCORES

_CARD_SCORES = (
    "r_region",
    "r_voxel",
    "std_ratio",
    "fc_similarity",
    "psnr_minmax_db",
    "ssim2d_minmax",
)
# Of the preprocessing config, what says how data were made; the rest says where.
_MACHINE_KEYS = {"output", "cluster", "quality", "on_error", "compression"}


@dataclass(frozen=True)
class Described:
    """What the model card is written from."""

    name: str
    license: str
    trained: TrainedModel
    parameters: int
    split: str
    model_scores: ModelScores | None
    sha256: str


def publish(config: ExportConfig) -> None:
    """Write a trained model into a folder that can be given to others.

    Parameters
    ----------
    config : ExportConfig

    Raises
    ------
    CheckpointError
        If the run has no whole checkpoint.
    ConfigError
        If the output is a run folder, or `scores` does not tell of these weights.
    """
    if (config.output / "checkpoints").exists() or (config.output / "config.yaml").exists():
        raise ConfigError(
            "the output is a run folder", where=config.output, remedy="give another output=..."
        )
    weights, model_scores = find_run_scores(config)
    trained = load_model(weights)
    trained = replace(trained, card=without_places(trained.card))
    file = config.output / WEIGHTS
    with replacing(file) as temporary:
        state = trained.model.state_dict()
        save_model(temporary, state, trained.card, trained.scaling, trained.mask)
        temporary.chmod(0o644)  # to be read by others
    record = record_file(file)
    write_manifest(config.output, {WEIGHTS: record})
    if model_scores is not None:
        model_scores = _of_these_weights(model_scores, str(record["sha256"]))
        write_json(config.output / METRICS, to_json(model_scores.report))
    described = Described(
        name=config.name or config.run.resolve().name,
        license=config.license or "none given: ask the authors",
        trained=trained,
        parameters=count_parameters(trained.model),
        split=load_run_config(config.run).split.name,
        model_scores=model_scores,
        sha256=str(record["sha256"]),
    )
    write_text(config.output / "README.md", render_card(described))


def find_run_scores(config: ExportConfig) -> tuple[Path, ModelScores | None]:
    """Return the weights of a run, and how they were scored.

    Raises
    ------
    ConfigError
        If `scores` names a file that does not tell of these weights.
    """
    weights = resolve_weights(config.run, config.checkpoint)
    sha256 = weights_sha256(weights)
    if config.scores is not None:
        return weights, require_scores(config.scores, sha256)
    return weights, find_scores(config.run, sha256)


def without_places(card: ModelCard) -> ModelCard:
    """Return a card that says nothing of where data lie on somebody's machine."""
    preprocessing = {
        key: value for key, value in card.preprocessing.items() if key not in _MACHINE_KEYS
    }
    for section in ("source", "atlas"):
        if isinstance(preprocessing.get(section), Mapping):
            preprocessing[section] = {
                key: value for key, value in preprocessing[section].items() if key != "path"
            }
    return replace(card, model=_without_paths(card.model), preprocessing=preprocessing)


def _without_paths(model: Mapping[str, Any]) -> dict[str, Any]:
    """The same model section, or that of each member, with the names of run folders alone."""
    model = dict(model)
    if model.get("skip_from"):
        model["skip_from"] = PurePath(model["skip_from"]).name
    if "members" in model:
        model["members"] = [
            member | {"model": _without_paths(member["model"])} for member in model["members"]
        ]
    return model


def _of_these_weights(model_scores: ModelScores, sha256: str) -> ModelScores:
    """The same scores, of this run alone, under the hash of the exported file."""
    run = replace(model_scores.run, weights_sha256=sha256)
    return ModelScores(replace(model_scores.report, runs=[run]), run)


def render_card(described: Described) -> str:
    """Return the model card (Mitchell et al., FAccT 2019) in Markdown."""
    card = described.trained.card
    shown = {
        "described": described,
        "card": card,
        "model": MODELS.get(card.model["name"], card.model["name"]),
        "origin": ORIGINS[card.preprocessing.get("source", {}).get("origin", "real")].value,
        "normalize": described.trained.data.normalize,
        "eeg": _eeg_settings(card),
        "grid": " x ".join(map(str, described.trained.grid)),
        "score_table": _score_table(described.model_scores),
        "scores": {name: SCORES[name] for name in _CARD_SCORES},
    }
    return render("eeg2fmri_dist/pages/model_card.md.j2", shown)


def _eeg_settings(card: ModelCard) -> dict[str, Any]:
    eeg = card.preprocessing.get("eeg", {})
    return {key: eeg[key] for key in ("band_hz", "sfreq_hz", "reference", "marker") if key in eeg}


def _score_table(model_scores: ModelScores | None) -> list[list[str]]:
    """Rows of cells, the first the heads; empty where there are no scores."""
    if model_scores is None:
        return []
    present = {name for row in model_scores.run.rows for s in row.subjects.values() for name in s}
    names = [name for name in _CARD_SCORES if name in present]
    heads = ["prediction from"]
    heads += [f"{SCORES[n].label}{f' ({SCORES[n].unit})' * bool(SCORES[n].unit)}" for n in names]
    return [heads] + [
        [row.label + " (oracle)" * row.oracle, *(_cell(row.interval(n), n) for n in names)]
        for row in model_scores.rows
    ]


def _cell(interval: Any, name: str) -> str:
    text = format_score(interval.mean, name)
    if interval.known:
        low, high = (format_score(end, name) for end in (interval.low, interval.high))
        text += f" [{low}, {high}]"
    return text
