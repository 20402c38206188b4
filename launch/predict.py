"""EEG -> predicted BOLD: python launch/predict.py configs/predict/demo.yaml [eeg=...]."""

import json
import logging
import sys
from pathlib import Path

from eeg2fmri_dist.interrupts import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.command import run_verb  # noqa: E402
from eeg2fmri_dist.config.evaluate import PredictConfig  # noqa: E402
from eeg2fmri_dist.errors import DataError  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: PredictConfig) -> None:
    """Predict, unless the same prediction is there."""
    from eeg2fmri_dist.training.manifest import resolve_weights, weights_sha256

    weights = resolve_weights(config.run, config.checkpoint)
    made_from = {"Weights": weights_sha256(weights), "EEG": _identify(config)}
    if _is_there(config.output, made_from):
        logger.info("%s is up to date", config.output)
        return
    _predict(config, weights, made_from)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted."""
    from eeg2fmri_dist.training.manifest import resolve_weights

    weights = resolve_weights(config.run, config.checkpoint)
    _identify(config)
    return [f"{weights}", f"  + {config.eeg}", f"  -> {config.output}"]


def _predict(config: PredictConfig, weights: Path, made_from: dict) -> None:
    import torch

    from eeg2fmri_dist.config.preprocess import EegConfig
    from eeg2fmri_dist.export import load_model
    from eeg2fmri_dist.predict import order_channels, predict_bold, write_prediction
    from eeg2fmri_dist.provenance import collect_provenance
    from preprocessing.eeg import eeg_features
    from preprocessing.recordings import Recording

    if config.threads:
        torch.set_num_threads(config.threads)
    trained = load_model(weights)
    settings = trained.card.preprocessing
    eeg_config = EegConfig.model_validate(settings["eeg"])
    if config.marker is not None:
        eeg_config = eeg_config.model_copy(update={"marker": config.marker})
    recording = Recording(subject="", eeg_path=config.eeg, bold_path=Path())
    features = eeg_features(
        recording, None, trained.card.tr_s, eeg_config, settings["drop_volumes"]
    )
    power = order_channels(features.power, features.channel_names, trained, config.eeg)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    volumes = predict_bold(trained, power, device)
    provenance = {"MadeFrom": made_from, "Provenance": collect_provenance()}
    write_prediction(config.output, volumes, trained, provenance)
    logger.info("predicted %d volumes: %s", len(volumes), config.output)


def _identify(config: PredictConfig) -> dict:
    try:
        config.eeg.stat()
    except OSError:
        raise DataError(
            "no such EEG header",
            where=config.eeg,
            remedy="give a BrainVision .vhdr file as eeg=...",
        ) from None
    beside = sorted(path for path in config.eeg.parent.glob(f"{config.eeg.stem}.*"))
    return {
        "file": str(config.eeg),
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in beside],
        "marker": config.marker,
    }


def _is_there(output: Path, made_from: dict) -> bool:
    from eeg2fmri_dist.predict import sidecar_path

    try:
        sidecar = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return output.exists() and sidecar.get("MadeFrom") == made_from


if __name__ == "__main__":
    sys.exit(run_verb(PredictConfig, act, plan))
