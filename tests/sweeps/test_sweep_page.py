"""What the user sees of a study."""

import io

import optuna
import pytest
from rich.console import Console

from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.monitoring.hparams import write_hparams
from eeg2fmri_dist.sweep.monitoring.page import write_page
from eeg2fmri_dist.sweep.monitoring.status import render, summarize
from eeg2fmri_dist.sweep.optuna_study import Study
from eeg2fmri_dist.sweep.space import first_values


@pytest.fixture
def opened(tmp_path):
    config = SweepConfig.model_validate(
        {
            "output": tmp_path / "sweep",
            "base": "base.yaml",
            "search": {
                "optimization.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
                "model.widths": {"choices": [[8], [8, 16]]},
                "model.layers": {"low": 1, "high": 3, "when": {"model.widths": [[8]]}},
            },
            "budget": {"trials": 9},
        }
    )
    folder = SweepFolder(config.output)
    folder.root.mkdir()
    return config, folder, Study(folder, config)


def fill(study, count):
    for number in range(count):
        trial = study.optuna.ask()
        rate = trial.suggest_float("optimization.learning_rate", 1e-5, 1e-2, log=True)
        if trial.suggest_categorical("model.widths", ["[8]", "[8, 16]"]) == "[8]":
            trial.suggest_int("model.layers", 1, 3)
        study.report(number, 1, rate)
        if number % 3 == 1:
            study.prune(number, "pruned after epoch 1")
        elif number == 2:
            study.fail(number, "exit code <3>")
        else:
            study.complete(number, rate)


def test_the_page_shows_all_views_and_loads_nothing(opened):
    config, folder, study = opened
    fill(study, 9)
    write_page(folder, config, study, {})
    page = folder.page.read_text()
    for title in ("History", "Parallel coordinates", "Importances", "Slices"):
        assert f"<h3>{title}</h3>" in page
    assert page.count("data:image/png;base64,") == 4
    assert "exit code &lt;3&gt;" in page
    assert 'src="http' not in page
    assert "<link" not in page


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_page_of_few_trials_is_made_too(opened, count):
    config, folder, study = opened
    fill(study, count)
    write_page(folder, config, study, {})
    assert "Importances are shown from four completed trials" in folder.page.read_text()


def test_tensorboard_is_told_of_keys_that_a_trial_does_not_have(opened):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    config, folder, study = opened
    trial = study.optuna.ask({"model.widths": optuna.distributions.CategoricalDistribution(["a"])})
    study.complete(trial.number, 0.5)
    folder.run(0).mkdir(parents=True)
    for _ in range(2):  # the second time there is nothing to write
        write_hparams(folder, study.trials(), "validation/r_region", first_values(config.search))
    (written,) = folder.run(0).iterdir()
    events = EventAccumulator(str(written))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert [info.name for info in experiment.hparam_infos] == list(config.search)


def test_the_table_says_how_each_trial_ended(opened):
    config, _, study = opened
    fill(study, 3)
    study.optuna.ask()
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(config, study, 9))
    shown = console.export_text()
    assert "exit code <3>" in shown
    assert "pruned after epoch 1" in shown
    assert "0*" in shown
    assert (
        summarize(study.trials(), 9) == "4 of 9 trials: 1 complete, 1 pruned, 1 failed, 1 running"
    )
    assert optuna.trial.TrialState.RUNNING in {t.state for t in study.trials()}
