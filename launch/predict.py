"""EEG -> predicted BOLD: python launch/predict.py configs/predict/demo.yaml [eeg=...]."""

import logging
import sys
from pathlib import Path

from eeg2fmri_dist.interrupts import end_quietly

end_quietly()  # importing the rest takes a moment

from eeg2fmri_dist.command import run_verb  # noqa: E402
from eeg2fmri_dist.config.evaluate import PredictConfig  # noqa: E402

logger = logging.getLogger("eeg2fmri_dist")


def act(config: PredictConfig) -> None:
    """Predict, unless the same prediction is there."""
    from eeg2fmri_dist.predicted_run import describe_inputs, is_up_to_date
    from eeg2fmri_dist.training.manifest import resolve_weights

    weights = resolve_weights(config.run, config.checkpoint)
    made_from = describe_inputs(config, weights)
    if is_up_to_date(config.output, made_from):
        logger.info("%s is up to date", config.output)
        return
    _predict(config, weights, made_from)


def plan(config: PredictConfig) -> list[str]:
    """Say what would be predicted."""
    from eeg2fmri_dist.predicted_run import describe_inputs
    from eeg2fmri_dist.training.manifest import resolve_weights

    weights = resolve_weights(config.run, config.checkpoint)
    describe_inputs(config, weights)
    return [f"{weights}", f"  + {config.eeg}", f"  -> {config.output}"]


def _predict(config: PredictConfig, weights: Path, made_from: dict) -> None:
    # Here, because prediction and preprocessing do not know each other.
    import torch

    from eeg2fmri_dist.export import load_model
    from eeg2fmri_dist.predict import order_channels, predict_bold
    from eeg2fmri_dist.predicted_run import write_predicted_run
    from eeg2fmri_dist.provenance import collect_provenance
    from preprocessing.eeg import eeg_features
    from preprocessing.recordings import Recording

    config.output.parent.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    if config.threads:
        torch.set_num_threads(config.threads)
    trained = load_model(weights)
    card = trained.card
    settings = trained.eeg
    if config.marker is not None:
        settings = settings.model_copy(update={"marker": config.marker})
    recording = Recording(subject="", eeg_path=config.eeg, bold_path=Path())
    drop_volumes = card.preprocessing["drop_volumes"]
    features = eeg_features(recording, None, card.tr_s, settings, drop_volumes)
    power = order_channels(features.power, features.channel_names, trained, config.eeg)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    volumes = predict_bold(trained, power, device)
    provenance = {"MadeFrom": made_from, "Provenance": collect_provenance()}
    write_predicted_run(config.output, volumes, card, provenance)
    logger.info("predicted %d volumes: %s", len(volumes), config.output)


if __name__ == "__main__":
    sys.exit(run_verb(PredictConfig, act, plan))
