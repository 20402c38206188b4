"""Cross-validation as a sweep: its order, its tokenizers, its table; and the memory check."""

import json

import pytest

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import ResourcesConfig, SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.evaluation.metrics_file import FORMAT, FORMAT_VERSION
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.sweep.driver import Driver
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.folds import Folds, folds_table
from eeg2fmri_dist.sweep.jobs.memory_check import find_shortage
from eeg2fmri_dist.sweep.monitoring.page import write_page
from eeg2fmri_dist.sweep.optuna_study import Study
from tests.helpers.stores import make_store
from tests.sweeps.fake_cluster import FakeCluster, run_of

MODELS = {name: f"configs/train/{name}.yaml" for name in ("transformer", "cae", "unet")}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "store.h5", n_subjects=4, n_volumes=20)


@pytest.fixture
def make_folds(store, tmp_path):
    def make(**changes):
        folds = {"models": MODELS, "scores": ["r_region"]} | changes
        config = SweepConfig.model_validate(
            {
                "output": tmp_path / "folds",
                "folds": folds,
                "overrides": {"store": str(store), "optimization.epochs": 1},
                "budget": {"parallel": 3},
                "retries": 0,
            }
        )
        folder = SweepFolder(config.output)
        return config, folder, Folds(config, folder)

    return make


def leave_scores(job_folder, value):
    run = run_of(job_folder)
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text('{"epoch": 1, "step": 1, "validation/r_region": 0.5}\n')
    (run / "finished.json").write_text("{}")
    subjects = {f"{int(job_folder.name) % 4 + 1:02d}": value}
    scores = {"scores": {"r_region": {"subjects": subjects}}}
    runs = [{"variants": {"eeg_only": scores, "shifted": scores}}]
    metrics = {"format": FORMAT, "version": FORMAT_VERSION, "runs": runs, "baselines": {}}
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_each_subject_is_left_out_once_and_the_transformer_waits_for_its_cae(make_folds):
    config, folder, task = make_folds()
    folder.claim(config, task.bases())
    cluster, study = FakeCluster(), Study(folder, config)
    driver = Driver(config, folder, study, task, cluster)
    while not driver.turn():
        started = {folder.name for folder, _ in cluster.submissions}
        for number in range(4, 8):
            cae_is_done = (folder.run(number - 4) / "finished.json").exists()
            assert f"{number:04d}" not in started or cae_is_done
        job = min(cluster.alive_folders())
        leave_scores(job, float(job.name) / 10)
        cluster.leave(job, 0)
    assert [t.params["model"] for t in study.trials()] == ["cae"] * 4 + ["transformer"] * 4 + [
        "unet"
    ] * 4
    recordings = Store(load_config(TrainConfig, folder.base("cae")).store).recordings
    for number in range(12):
        trained = task.training(number, study.trials()[number].params).config()
        (left_out,) = make_split(recordings, trained.split).test
        assert recordings[left_out.recording].subject == f"{number % 4 + 1:02d}"
        if trained.model.name == "transformer":
            assert trained.tokenizer == folder.run(number - 4)
    table = folds_table(task)
    assert list(table) == [
        "cae",
        "transformer",
        "unet",
        *(f"{model}, circularly shifted EEG" for model in ("cae", "transformer", "unet")),
    ]
    cell = table["transformer"]["r_region"]
    assert cell["subjects"] == {"01": 0.4, "02": 0.5, "03": 0.6, "04": 0.7}
    assert cell["mean"] == pytest.approx(0.55)
    assert cell["low"] < 0.55 < cell["high"]
    write_page(folder, config, study, table)
    page = folder.page.read_text()
    assert "transformer, circularly shifted EEG" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_transformer_whose_cae_failed_is_not_started(make_folds):
    config, folder, task = make_folds()
    folder.claim(config, task.bases())
    cluster, study = FakeCluster(), Study(folder, config)
    driver = Driver(config, folder, study, task, cluster)
    while not driver.turn():
        job = min(cluster.alive_folders())
        if job.name == "0001":
            cluster.leave(job, None)
            continue
        leave_scores(job, 0.5)
        cluster.leave(job, 0)
    states = [trial.state.name for trial in study.trials()]
    assert [number for number, state in enumerate(states) if state == "FAIL"] == [1, 5]
    assert "0005" not in {folder.name for folder, _ in cluster.submissions}
    assert "trial 1, which failed" in study.trials()[5].user_attrs["reason"]


def test_k_folds_are_numbered(make_folds):
    config, folder, task = make_folds(name="k_fold", folds=2, models={"cae": MODELS["cae"]})
    folder.claim(config, task.bases())
    assert task.points == [{"model": "cae", "fold": 0}, {"model": "cae", "fold": 1}]
    assert task.training(1, task.points[1]).config().split.fold == 1


def test_a_transformer_without_its_cae_is_refused(make_folds):
    with pytest.raises(ConfigError, match="no cae with this output is among the models"):
        make_folds(models={"transformer": MODELS["transformer"]})


def test_an_ensemble_among_folds_is_refused(make_folds):
    with pytest.raises(ConfigError, match="both is an ensemble: its members were trained before"):
        make_folds(models={"both": "configs/train/ensemble.yaml"})


def test_a_transformer_takes_the_ridge_of_its_own_fold(make_folds):
    models = {"ridge": "configs/train/ridge_quadratic.yaml"}
    models["own"] = "configs/train/transformer_from_ridge.yaml"
    _, folder, task = make_folds(models=dict(reversed(models.items())))
    folder.claim(_, task.bases())
    assert [point["model"] for point in task.points] == ["ridge"] * 4 + ["own"] * 4
    for number in range(4, 8):
        assert task.needs(number) == (number - 4,)
        trained = task.training(number, task.points[number]).config()
        assert trained.model.skip_from == folder.run(number - 4)


def training(store, *overrides):
    values = [f"store={store}", "output=none", *overrides]
    return load_config(TrainConfig, "configs/train/cae.yaml", values)


def test_a_training_that_cannot_fit_is_refused_with_both_numbers(store):
    small, large = training(store), training(store, "model.d_token=1000000")
    resources = ResourcesConfig(memory_gib=1)
    assert find_shortage(small, resources) is None
    problem = find_shortage(large, resources)
    assert problem is not None
    assert "resources.memory_gib is 1" in problem
    assert find_shortage(large, ResourcesConfig()) is None


def test_the_memory_estimate_is_sixteen_bytes_a_parameter_and_shrinks_with_zero(store):
    from eeg2fmri_dist.models.build import build_model, count_parameters
    from eeg2fmri_dist.sweep.jobs.memory_check import training_state_bytes
    from eeg2fmri_dist.training.store_facts import store_sizes

    config = training(store, "engine.zero_stage=2")
    parameters = count_parameters(build_model(config.model, None, store_sizes(Store(store), 0)))
    assert training_state_bytes(config, 1) == 16 * parameters
    assert training_state_bytes(config, 4) == (4 + 12 / 4) * parameters
