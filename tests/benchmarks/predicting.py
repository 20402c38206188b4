"""Prediction from a raw recording to files and page, against the time that the recording took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.data.normalization import Scaling
from eeg2fmri_dist.inference.model_file import ModelCard, save_model
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation.scanner.write_brainvision import Layout, Marker, write_brainvision
from preprocessing.template.mni import SPACE, grid_affine
from tests.benchmarks.measuring import Measurement, quartiles, seconds
from tests.benchmarks.trainings import (
    GRID,
    NUM_CHANNELS,
    NUM_FREQUENCIES,
    ROOT,
    TR_S,
    brain_mask,
    default_cae,
    default_config,
    make_noddi_objective,
)

VOLUMES, SFREQ_HZ, THREADS, ROUNDS = 300, 5000, 2, 3


def against_real_time() -> Measurement:
    """launch/predict.py on a recording as long as NODDI's, untrained default Transformer."""
    recorded_s = VOLUMES * TR_S
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        _write_model(folder / "model.safetensors")
        _write_recording(folder / "sub-01_task-rest_eeg.vhdr")
        whole_s = [
            seconds(lambda number=number: _predict(folder, folder / str(number)))  # type: ignore[misc]
            for number in range(ROUNDS)
        ]
        # What is done already is not done again: this is start-up alone.
        start_s = [seconds(lambda: _predict(folder, folder / "0")) for _ in range(ROUNDS)]
    ratios = [recorded_s / each for each in whole_s]
    start, whole = statistics.median(start_s), statistics.median(whole_s)
    return Measurement(
        value=statistics.median(ratios),
        unit="times real time",
        against="the length of the recording",
        target=">= 50",
        spread=quartiles(ratios),
        notes=[
            f"{recorded_s:.0f} s of {len(CHANNELS)} channels at {SFREQ_HZ} Hz in {whole:.1f} s, "
            f"{THREADS} threads, with NIfTI, time series and page; untrained weights, EEG without "
            "scanner artifacts",
            f"start-up, reading the model included, {start:.1f} s; without it "
            f"{recorded_s / (whole - start):.0f} times real time, as in a list of recordings",
        ],
    )


def _predict(folder: Path, output: Path) -> None:
    command = [
        *(sys.executable, "launch/predict.py", "configs/predict/demo.yaml"),
        *(f"run={folder / 'model.safetensors'}", f"eeg={folder / 'sub-01_task-rest_eeg.vhdr'}"),
        *(f"output={output}", f"threads={THREADS}"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)


def _write_recording(header: Path) -> None:
    """White noise of 20 uV with a marker for each volume."""
    rng = np.random.default_rng(0)
    per_volume = round(TR_S * SFREQ_HZ)

    def blocks() -> Iterator[np.ndarray]:
        for _ in range(VOLUMES):
            yield rng.integers(-400, 400, (per_volume, len(CHANNELS)), dtype=np.int16)

    markers = [Marker("Response", "R128", number * per_volume) for number in range(VOLUMES)]
    write_brainvision(header, Layout(CHANNELS, SFREQ_HZ, 0.05), blocks(), markers)


def _write_model(path: Path) -> None:
    """The default Transformer with its default CAE, untrained, at NODDI's sizes."""
    config = default_config("transformer")
    model = make_noddi_objective(config).model
    mask = brain_mask().numpy()
    shape = (NUM_CHANNELS, NUM_FREQUENCIES)
    source = {"name": "noddi", "path": "unused"}
    preprocessing = PreprocessConfig.model_validate({"source": source, "output": "unused"})
    card = ModelCard(
        recipe=config.recipe,
        model=config.model.model_dump(mode="json"),
        tokenizer=default_cae().model_dump(mode="json"),
        data=config.data.model_dump(mode="json"),
        preprocessing=preprocessing.model_dump(mode="json"),
        channel_names=[name for name in CHANNELS if name != "ECG"],
        frequencies_hz=[float(hz) for hz in range(1, NUM_FREQUENCIES + 1)],
        tr_s=TR_S,
        affine=grid_affine(GRID).tolist(),
        space=SPACE,
        store_fingerprint="none",
        subjects={"train": ["none"], "validation": [], "test": []},
    )
    scaling = Scaling(
        reference=(500.0 * mask).astype(np.float32),
        fraction=(0.01 * mask).astype(np.float32),
        bold_mean=0.0,
        bold_std=1.0,
        temporal_share=0.0,
        bold_min=0.0,
        bold_max=1.0,
        eeg_mean=np.zeros(shape, np.float32),
        eeg_std=np.ones(shape, np.float32),
    )
    save_model(path, model.state_dict(), card, scaling, mask)
