"""Where linear models lose what the EEG shows: each loss, where it was put, and nowhere else."""

import json

import numpy as np
import pytest

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.experiments.error_decomposition import ErrorDecomposition, main
from eeg2fmri_dist.models.hrf import hrf_basis
from eeg2fmri_dist.scores.networks import regional_means
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.store_facts import store_regions
from tests.helpers.repository import ROOT
from tests.helpers.stores import make_store

RIDGE = ROOT / "configs" / "train" / "ridge.yaml"
N_VOLUMES, DROPPED = 60, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, and truths whose sources drive what was measured, beside noise."""
    folder = tmp_path_factory.mktemp("oracle")
    store = Store(make_store(folder / "store.h5", n_subjects=10, n_volumes=N_VOLUMES))
    labels = store_regions(store).labels
    n_regions = labels.max()
    kernel = hrf_basis(store.recordings[0].tr_s)[0]
    for entry in store.recordings:
        rng = np.random.default_rng(int(entry.subject))
        volumes = store.bold(entry.first_sample, entry.first_sample + entry.n_samples)
        means = regional_means(volumes, labels, n_regions)
        measured = 100 * (means / means.mean(axis=0) - 1)
        power = rng.standard_normal((DROPPED + N_VOLUMES, n_regions, 2))
        drive = [np.convolve(course, kernel)[: len(power)] for course in power[..., 0].T]
        centers = np.moveaxis(np.indices(labels.shape), 0, -1) @ store.layout.affine[:3, :3].T
        np.savez(
            folder / f"sub-{entry.subject}.npz",
            bold_driven=np.stack(drive, axis=1) * measured.std(),
            band_power=power,
            labels_native=labels,
            grey_matter_native=(labels > 0).astype(float),
            native_to_mni_mm=centers + store.layout.affine[:3, 3],
        )
    return folder


def given(folder):
    return [f"store={folder / 'store.h5'}", "data.eeg_scale=log"]


def config_of(folder, *overrides):
    return load_config(TrainConfig, RIDGE, [*given(folder), *overrides])


@pytest.fixture(scope="module")
def ladder(folder):
    return ErrorDecomposition(config_of(folder), folder)


def test_sources_learnt_without_noise_predict_what_they_drive(ladder):
    counts = [2, 4]
    steps = {(step.name, step.train_subjects): step.r_driven.mean for step in ladder.climb(counts)}
    assert steps["noise ceiling", None] == pytest.approx(1, abs=1e-6)
    assert steps["sources, BOLD without noise", 4] > 0.99
    # The store's BOLD and EEG know nothing of these sources.
    assert abs(steps["sources, measured BOLD", 4]) < 0.4
    assert abs(steps["EEG, BOLD without noise", 4]) < 0.4
    assert len(steps) == 2 + 4 * len(counts)


def test_the_command_prints_a_table_and_writes_numbers(folder, tmp_path, capsys):
    command = [str(RIDGE), *given(folder), "--truth", str(folder)]
    output = tmp_path / "oracle.json"
    assert main([*command, "--train-subjects", "4", "--output", str(output)]) == 0
    table = capsys.readouterr().out
    assert "of ceiling" in table
    written = json.loads(output.read_text())
    assert written[0]["name"] == "noise ceiling"
    for step in written:
        assert step["name"] in table
        assert f"{step['r_region']['mean']:.3f}" in table


def test_what_cannot_be_climbed_is_refused(folder, ladder, capsys):
    with pytest.raises(ConfigError, match="training subjects, not 40"):
        ladder.climb([40])
    with pytest.raises(ConfigError, match="the model is unet, not ridge"):
        ErrorDecomposition(config_of(folder, "model={name: unet}"), folder)
    with pytest.raises(ConfigError, match="choose log or power"):
        ErrorDecomposition(config_of(folder, "data.eeg_scale=auto"), folder)
    missing = [str(RIDGE), *given(folder), "--truth", str(folder / "nowhere")]
    assert main(missing) == 3
    assert "not a whole truth file" in capsys.readouterr().err
