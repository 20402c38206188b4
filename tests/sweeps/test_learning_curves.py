"""Learning curves as a sweep: which trials there are, what they build on, what the table says."""

import json

import numpy as np
import pytest
from scipy import stats

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.sweep.driver import Driver
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.learning_curves.baselines import find_baselines
from eeg2fmri_dist.sweep.learning_curves.task import LearningCurves
from eeg2fmri_dist.sweep.optuna_study import Study
from eeg2fmri_dist.sweep.run import conclude
from eeg2fmri_dist.sweep.stores import require_same_stores
from eeg2fmri_dist.training.store_facts import store_regions
from tests.helpers.stores import make_store
from tests.sweeps.fake_cluster import FakeCluster, run_of

MODELS = {
    "own": {"config": "configs/train/transformer_from_ridge.yaml"},
    "ridge": {"config": "configs/train/ridge_quadratic.yaml"},
    "u-net": {"config": "configs/train/unet.yaml", "train_subjects": [2], "seeds": [1]},
}
TEST_SUBJECTS = ("05", "06", "07", "08")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {
        name: make_store(folder / f"{name}.h5", n_subjects=8, n_volumes=20, seed=seed)
        for seed, name in enumerate(("linear", "null"))
    }


@pytest.fixture
def make_curves(stores, tmp_path):
    def make(**changes):
        curves = {
            "conditions": {
                "linear": {"store": str(stores["linear"])},
                "null": {"store": str(stores["null"]), "train_subjects": [2]},
            },
            "train_subjects": [1, 2],
            "seeds": [0, 1],
            "models": MODELS,
            "reference": "ridge",
        }
        config = SweepConfig.model_validate(
            {
                "output": tmp_path / "curves",
                "learning_curves": curves | changes,
                "overrides": {
                    "split.fractions": [0.375, 0.125, 0.5],
                    "optimization.epochs": 1,
                },
                "budget": {"parallel": 2},
                "retries": 0,
            }
        )
        folder = SweepFolder(config.output)
        task = LearningCurves(config, folder)
        folder.claim(config, task.bases())
        return config, folder, task

    return make


def leave_scores(job_folder, point):
    """Scores of which the table can be computed by hand: seeds differ, subjects differ."""
    run = run_of(job_folder)
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text('{"epoch": 1, "step": 1, "validation/r_region": 0.5}\n')
    (run / "finished.json").write_text("{}")
    height = {"own": 0.5, "ridge": 0.4, "u-net": 0.1}[point["model"]] + 0.02 * point["seed"]
    if point["condition"] == "null":
        height = 0.0
    r = {who: height + 0.01 * rank - 0.015 for rank, who in enumerate(TEST_SUBJECTS)}
    nothing = dict.fromkeys(TEST_SUBJECTS, 0.0)
    scores = dict.fromkeys(("r_region_shifted", "r_region_gsr_shifted"), nothing)
    specific = nothing if point["model"] == "u-net" else r
    if point["model"] == "own" and point["train_subjects"] == 1:
        specific = {who: value - 0.11 for who, value in r.items()}  # that of ridge
    scores |= {"r_region": r, "r_region_gsr": specific}
    scores |= dict.fromkeys(("std_ratio", "psnr_zscore_db"), dict.fromkeys(TEST_SUBJECTS, 0.5))
    (run / "regional.json").write_text(json.dumps(scores))


def test_every_model_of_every_condition_runs_once_after_what_it_builds_on(make_curves):
    config, folder, task = make_curves()
    cluster, study = FakeCluster(), Study(folder, config)
    driver = Driver(config, folder, study, task, cluster)
    while not driver.turn():
        for job, _ in cluster.submissions:
            for needed in task.needs(int(job.name)):
                assert (folder.run(needed) / "finished.json").exists()
        job = min(cluster.alive_folders())
        leave_scores(job, task.points[int(job.name)])
        cluster.leave(job, 0)
    done = [tuple(trial.params.values()) for trial in study.trials()]
    ridge = [("linear", 1, "ridge", 0), ("linear", 2, "ridge", 0), ("null", 2, "ridge", 0)]
    own = [
        (condition, count, "own", seed)
        for condition, count in (("linear", 1), ("linear", 2), ("null", 2))
        for seed in (0, 1)
    ]
    unet = [("linear", 2, "u-net", 1), ("null", 2, "u-net", 1)]
    assert sorted(done) == sorted(ridge + own + unet)
    assert len(set(done)) == len(done)
    conclude(config, folder, study, task)
    found = json.loads((folder.root / "learning_curves.json").read_text())["points"]
    by_name = {(p["condition"], p["train_subjects"], p["model"]): p for p in found}
    best = by_name["linear", 2, "own"]
    # By hand: mean over two seeds, then over subjects; the difference is the same in all subjects.
    assert best["r"]["mean"] == pytest.approx(0.51)
    half = stats.t.ppf(0.975, 3) * np.std([0.0, 0.01, 0.02, 0.03], ddof=1) / 2
    assert best["r"]["high"] - best["r"]["mean"] == pytest.approx(half)
    assert best["against"]["low"] == pytest.approx(0.11)
    assert best["in_words"].startswith("follows the EEG, better than the reference (95 %")
    assert by_name["linear", 1, "own"]["in_words"].startswith(
        "follows the EEG, better than the reference in the global signal alone"
    )
    assert by_name["linear", 2, "ridge"]["against"] is None
    assert "global signal alone" in by_name["linear", 2, "u-net"]["in_words"]
    assert by_name["null", 2, "own"]["in_words"].startswith("r not different from 0")
    table = (folder.root / "learning_curves.md").read_text().splitlines()
    names = ("training-mean image | 0.00 |", "copy of last volume |")
    baselines = [f"| linear |  | {name}" for name in names]
    assert len(table) == 2 + len(found) + 2 * len(baselines)
    assert all(line.startswith(mark) for line, mark in zip(table[2:], baselines, strict=False))
    assert {line.count("|") for line in table} == {13}
    (row,) = (line for line in table if line.startswith("| linear | 2 | own | 0.51 ("))
    assert row.endswith("| +0.110 (+0.110 to +0.110) |")
    page = folder.page.read_text()
    assert "data:image/png;base64" in page
    assert "above ridge" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_store_that_was_made_anew_does_not_go_on_with_old_trials(make_curves, stores, tmp_path):
    _, folder, task = make_curves()
    require_same_stores(folder, task.stores())
    require_same_stores(folder, [*task.stores(), tmp_path / "not_made_yet.h5"])
    before = stores["null"].read_bytes()
    try:
        make_store(stores["null"], n_subjects=8, n_volumes=20, seed=9)
        with pytest.raises(DataError, match="has changed since the sweep"):
            require_same_stores(folder, task.stores())
    finally:
        stores["null"].write_bytes(before)
    require_same_stores(folder, task.stores())


def test_baselines_are_what_numpy_finds_in_the_store(make_curves, stores):
    config, folder, task = make_curves()
    found = find_baselines(config.learning_curves, task, folder)
    assert list(found) == ["linear", "null"]
    assert find_baselines(config.learning_curves, task, folder) == found  # read again
    store = Store(stores["linear"])
    labels = store_regions(store).labels
    segment = next(r for r in store.recordings if r.subject == TEST_SUBJECTS[0])
    bold = store.bold(segment.first_sample, segment.first_sample + segment.n_samples)
    regions = [k for k in np.unique(labels) if k]
    true = np.stack([bold[:, labels == k].mean(axis=1) for k in regions], axis=1)
    copied = np.concatenate([true[:1], true[:-1]])
    time = np.arange(len(true))

    def straightened(series):
        slope, level = np.polyfit(time, series, 1)
        return series - slope * time[:, None] - level

    pairs = zip(straightened(copied).T, straightened(true).T, strict=True)
    r = np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])
    scores = found["linear"]
    assert scores["last_volume"]["r_region"][TEST_SUBJECTS[0]] == pytest.approx(r, abs=1e-4)
    assert set(scores["training_mean"]["r_region"].values()) == {0.0}
    error = np.mean((bold[1:].astype(float) - bold[:-1]) ** 2) * (len(bold) - 1) / len(bold)
    psnr = 10 * np.log10(float(np.ptp(bold)) ** 2 / error)
    assert scores["last_volume"]["psnr_zscore_db"][TEST_SUBJECTS[0]] == pytest.approx(
        psnr, rel=1e-4
    )
    assert set(scores) == {"training_mean", "last_volume"}  # no truth, no ceiling


def test_a_trial_has_its_conditions_store_its_subjects_and_its_own_parent(make_curves, stores):
    _, folder, task = make_curves()
    for number, point in enumerate(task.points):
        trained = task.training(number, point).config()
        assert trained.store == stores[point["condition"]]
        assert trained.optimization.seed == point["seed"]
        recordings = Store(trained.store).recordings
        split = make_split(recordings, trained.split)
        assert len(split.train) == point["train_subjects"]
        assert tuple(recordings[each.recording].subject for each in split.test) == TEST_SUBJECTS
        if point["model"] == "own":
            (needed,) = task.needs(number)
            assert trained.model.skip_from == folder.run(needed)
            parent = {"condition": point["condition"], "train_subjects": point["train_subjects"]}
            assert task.points[needed] == parent | {"model": "ridge", "seed": 0}


def test_a_condition_may_split_its_subjects_in_its_own_way(make_curves, stores):
    conditions = {
        "linear": {"store": str(stores["linear"])},
        "null": {"store": str(stores["null"]), "fractions": [0.5, 0.25, 0.25]},
    }
    _, _, task = make_curves(conditions=conditions)
    for number, point in enumerate(task.points):
        trained = task.training(number, point).config()
        split = make_split(Store(trained.store).recordings, trained.split)
        sizes = {"linear": (1, 4), "null": (2, 2)}
        assert (len(split.validation), len(split.test)) == sizes[point["condition"]]
        assert len(split.train) == point["train_subjects"]


def test_a_model_whose_parent_is_missing_or_not_trained_is_refused(make_curves):
    with pytest.raises(ConfigError, match="no ridge with this output is among the models"):
        make_curves(models={"own": MODELS["own"]}, reference=None)
    few = MODELS | {"ridge": MODELS["ridge"] | {"train_subjects": [1]}}
    with pytest.raises(ConfigError, match="ridge, which is not trained with 2 subjects in linear"):
        make_curves(models=few)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "copy"}, "reference 'copy' is none of"),
        ({"models": {"u-net": MODELS["u-net"] | {"seeds": [7]}}, "reference": None}, "7 is not"),
    ],
)
def test_names_that_do_not_exist_are_refused(make_curves, changes, message):
    with pytest.raises(ValueError, match=message):
        make_curves(**changes)
