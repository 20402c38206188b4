"""The noise ceiling of simulated subjects, and scores as a share of it."""

import numpy as np
import pytest

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.evaluation.baselines.noise_ceiling import (
    Ceiling,
    regions_on_grid,
    with_explained,
)
from eeg2fmri_dist.evaluation.regional import against_truth
from eeg2fmri_dist.evaluation.results import RunSection
from eeg2fmri_dist.evaluation.score_rows import ScoreRow
from eeg2fmri_dist.evaluation.scored_set import Scope, read_scored_set
from eeg2fmri_dist.evaluation.verdict import verdict
from eeg2fmri_dist.scores.networks import regional_means
from eeg2fmri_dist.scores.temporal import detrend, temporal_correlation
from eeg2fmri_dist.store import Store
from tests.helpers.stores import make_store

DROPPED = 5


def truth_of(labels, layout):
    """A run that was measured on the grid of the store."""
    centers = np.moveaxis(np.indices(labels.shape), 0, -1) @ layout.affine[:3, :3].T
    return {
        "labels_native": labels,
        "grey_matter_native": np.where(labels % 2, 1.0, 0.5),
        "native_to_mni_mm": centers + layout.affine[:3, 3],
    }


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A test set, and a folder with truth whose regions are those of the store."""
    folder = tmp_path_factory.mktemp("ceiling")
    store = Store(make_store(folder / "store.h5", n_subjects=8, n_volumes=60))
    split = make_split(store.recordings, SplitConfig())
    scored_set = read_scored_set(store, split, Scope(ssim_every=60))
    rng = np.random.default_rng(0)
    for recording in scored_set.recordings:
        means = regional_means(recording.true, scored_set.regions.labels, len(scored_set.regions))
        percent = 100 * (means / means.mean(axis=0) - 1)
        percent += rng.normal(0, percent.std(), percent.shape)
        np.savez(
            folder / f"sub-{recording.subject}.npz",
            bold_driven=np.concatenate([np.full((DROPPED, percent.shape[1]), 9.0), percent]),
            bold_shared_noise=np.concatenate(
                [np.full(DROPPED, 9.0), rng.normal(size=len(percent))]
            ),
            **truth_of(scored_set.regions.labels, store.layout),
        )
    return scored_set, folder


def ceiling_of(scored):
    scored_set, folder = scored
    return Ceiling(folder, scored_set.store.layout, scored_set.scaling.reference)


def test_ceiling_is_the_correlation_of_the_driven_with_the_measured_bold(scored):
    scored_set, folder = scored
    row = scored_set.row("ceiling", ceiling_of(scored))
    for recording in scored_set.recordings:
        driven = np.load(folder / f"sub-{recording.subject}.npz")["bold_driven"][DROPPED:]
        expected = temporal_correlation(detrend(driven, 1), recording.true_regions).mean()
        assert row.subjects[recording.subject]["r_region"] == pytest.approx(expected, abs=1e-3)
        assert 0.5 < expected < 0.9
    assert row.oracle


def test_a_prediction_is_compared_with_what_drives_bold_and_with_shared_noise(scored):
    scored_set, folder = scored
    recording = scored_set.recordings[0]
    truth = np.load(folder / f"sub-{recording.subject}.npz")
    driven, noise = (truth[key][DROPPED:] for key in ("bold_driven", "bold_shared_noise"))
    follows = against_truth(detrend(1000 + driven, 1), scored_set, recording, folder)
    assert follows["r_driven"] > 0.99
    everywhere = 1000 + np.repeat(noise[:, None], driven.shape[1], axis=1)
    breathes = against_truth(detrend(everywhere, 1), scored_set, recording, folder)
    assert breathes["r_shared_noise"] == pytest.approx(1, abs=1e-6)
    expected = temporal_correlation(detrend(everywhere, 1), detrend(driven, 1)).mean()
    assert breathes["r_driven"] == pytest.approx(expected, abs=1e-3)


def test_a_truth_without_shared_noise_has_none(scored, tmp_path):
    scored_set, folder = scored
    recording = scored_set.recordings[0]
    name = f"sub-{recording.subject}.npz"
    with np.load(folder / name) as truth:
        np.savez(tmp_path / name, **{k: v for k, v in truth.items() if k != "bold_shared_noise"})
    found = against_truth(recording.true_regions, scored_set, recording, tmp_path)
    assert found["r_shared_noise"] == 0
    assert found["r_driven"] > 0.5


def test_regions_are_those_of_the_nearest_measured_voxel(scored):
    layout = scored[0].store.layout
    labels = scored[0].regions.labels
    truth = truth_of(labels, layout)
    region, share = regions_on_grid(truth, layout)
    assert (region == labels).all()
    assert (share == np.where(layout.mask, truth["grey_matter_native"], 0)).all()
    # The run was measured in another order of voxels, a little to the side.
    turned = {key: value[::-1] for key, value in truth.items()}
    turned["native_to_mni_mm"] = turned["native_to_mni_mm"] + 0.4
    assert (regions_on_grid(turned, layout)[0] == labels).all()


def test_half_the_ceiling_is_a_quarter_of_the_explainable_variance():
    ceiling = ScoreRow("ceiling", {"a": {"r_region": 0.8}, "b": {"r_region": 0.6}})
    rows = [
        ScoreRow("eeg_only", {"a": {"r_region": 0.4}, "b": {"r_region": 0.3}}, 1e-4),
        ScoreRow("shifted", {"a": {"r_region": -0.4}, "b": {"r_region": 0.0}}),
    ]
    eeg_only, shifted, own = with_explained([*rows, ceiling], ceiling)
    assert eeg_only.values("ceiling_normalized_r2") == pytest.approx({"a": 25.0, "b": 25.0})
    assert shifted.values("ceiling_normalized_r2") == pytest.approx({"a": -25.0, "b": 0.0})
    assert own.values("ceiling_normalized_r2") == pytest.approx({"a": 100.0, "b": 100.0})


def test_the_verdict_says_what_share_is_explained():
    subjects = ("a", "b", "c", "d")
    values = zip(subjects, (0.38, 0.4, 0.41, 0.42), strict=True)
    eeg_only = ScoreRow("eeg_only", {s: {"r_region": r, "std_ratio": 0.6} for s, r in values}, 1e-4)
    shifted = ScoreRow("shifted", {s: {"r_region": 0.0} for s in subjects})
    ceiling = ScoreRow("ceiling", {s: {"r_region": 0.8} for s in subjects})
    rows = with_explained([eeg_only, shifted], ceiling)
    decided = verdict(RunSection("t", "default", "transformer", 1, rows), [ceiling])
    assert decided.notes[0].startswith("It explains 25 % of the explainable variance (95 %")
    null = ScoreRow("ceiling", {s: {"r_region": 0.0} for s in subjects})
    rows = with_explained([eeg_only, shifted], null)
    decided = verdict(RunSection("t", "default", "transformer", 1, rows), [null])
    assert decided.notes[0] == "Nothing can be explained here: the noise ceiling is r 0.00."


def test_truth_that_is_missing_or_of_other_recordings_is_refused(scored, tmp_path):
    scored_set, folder = scored
    recording = scored_set.recordings[0]
    layout, reference = scored_set.store.layout, scored_set.scaling.reference
    with pytest.raises(DataError, match="not a whole truth file"):
        Ceiling(tmp_path, layout, reference)(recording)
    name = f"sub-{recording.subject}.npz"
    content = dict(np.load(folder / name))
    np.savez(tmp_path / name, **content | {"bold_driven": content["bold_driven"][:20]})
    with pytest.raises(DataError, match="15 volumes after the first 5"):
        Ceiling(tmp_path, layout, reference)(recording)
