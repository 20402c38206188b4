"""A run that is stopped, killed or damaged ends with the model it would have made without that."""

import json
import os
import re
import shutil
import signal

import pytest

from eeg2fmri_dist.inference.weights import resolve_weights
from tests.helpers.rank_processes import finish, run_ranks, start_ranks
from tests.helpers.stores import make_store
from tests.helpers.tiny_trainings import (
    CAE,
    TRANSFORMER,
    assert_same_run,
    command,
    losses,
    wait_for_epochs,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed_cae(folder):
    run_ranks(command(folder, "undisturbed-cae", CAE), 1)
    return folder / "undisturbed-cae"


@pytest.fixture(scope="module")
def undisturbed_transformer(folder):
    run_ranks(command(folder, "undisturbed-transformer", TRANSFORMER), 2)
    return folder / "undisturbed-transformer"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)]
)
def test_a_stopped_run_continues_as_if_it_had_not_been(folder, undisturbed_cae, number):
    run = folder / f"stopped-{number.name}"
    processes = start_ranks(command(folder, run.name, CAE), 1)
    wait_for_epochs(run, 3, processes)
    processes[0].send_signal(number)
    codes, output = finish(processes)
    assert codes == [75], output
    assert f"stopped by {number.name}" in output
    assert "resumed from" in run_ranks(command(folder, run.name, CAE), 1)
    assert_same_run(run, undisturbed_cae)
    assert "up to date" in run_ranks(command(folder, run.name, CAE), 1)


def test_a_killed_rank_ends_the_others_and_the_run_continues(folder, undisturbed_transformer):
    run = folder / "killed"
    processes = start_ranks(command(folder, run.name, TRANSFORMER), 2)
    wait_for_epochs(run, 4, processes)
    os.kill(processes[1].pid, signal.SIGKILL)
    codes, output = finish(processes)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0, output
    run_ranks(command(folder, run.name, TRANSFORMER), 2)
    assert_same_run(run, undisturbed_transformer)


def test_a_signal_to_one_rank_stops_all(folder):
    run = folder / "one-rank"
    processes = start_ranks(command(folder, run.name, TRANSFORMER), 2)
    wait_for_epochs(run, 2, processes)
    processes[1].send_signal(signal.SIGUSR1)
    codes, output = finish(processes)
    assert codes == [75, 75], output


def test_a_damaged_checkpoint_is_passed_over(folder, undisturbed_cae):
    run = folder / "damaged"
    processes = start_ranks(command(folder, run.name, CAE), 1)
    wait_for_epochs(run, 5, processes)
    processes[0].send_signal(signal.SIGTERM)
    finish(processes)
    newest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text()
    shard = next(newest.glob("training-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    output = run_ranks(command(folder, run.name, CAE), 1)
    assert f"{newest} is damaged" in output
    assert_same_run(run, undisturbed_cae)


def test_another_config_on_the_same_folder_is_refused(folder, undisturbed_cae):
    wrong = command(folder, undisturbed_cae.name, CAE, "optimization.learning_rate=0.5")
    codes, output = finish(start_ranks(wrong, 1))
    assert codes == [2]
    assert "optimization.learning_rate: 0.003 there, 0.5 now" in output
    assert "Traceback" not in output


def test_another_store_is_refused(folder, undisturbed_cae):
    make_store(folder / "other.h5", n_subjects=4, n_volumes=40, seed=5)
    wrong = command(folder, undisturbed_cae.name, CAE, f"store={folder / 'other.h5'}")
    codes, output = finish(start_ranks(wrong, 1))
    assert codes == [2]
    assert "other.h5" in output


def test_a_store_that_changed_under_its_path_is_refused(folder):
    once = ("optimization.epochs=1", f"store={folder / 'changing.h5'}")
    train = command(folder, "changing", CAE, *once)
    make_store(folder / "changing.h5", n_subjects=4, n_volumes=40)
    run_ranks(train, 1)
    make_store(folder / "changing.h5", n_subjects=4, n_volumes=40, seed=5)
    made_from = json.loads((folder / "changing" / "provenance.json").read_text())["inputs"]
    for finished in (True, False):
        if not finished:
            (folder / "changing" / "finished.json").unlink()
        codes, output = finish(start_ranks(train, 1))
        assert codes == [3], output
        assert f"made from another store (fingerprint {made_from['store'][:12]} there," in output
        assert "What to do: restore that store" in output
        assert "Traceback" not in output


def test_checkpoints_of_a_model_of_another_shape_are_refused(folder, undisturbed_cae):
    shutil.copytree(undisturbed_cae / "checkpoints", folder / "wider" / "checkpoints")
    codes, output = finish(start_ranks(command(folder, "wider", CAE, "model.widths=[8,32]"), 1))
    assert codes == [3], output
    assert re.search(r"does not fit the model \(\S+ is \(.*16.*\) there, \(.*32.*\) here", output)
    assert "Traceback" not in output


def test_a_training_that_cannot_start_leaves_its_folder_free(folder):
    once = command(folder, "mistaken", CAE, "optimization.epochs=1")
    for mapping, told in (
        ("{zero_optimization: {stage: much}}", "DeepSpeed cannot use its config"),
        ("{prescale_gradient: true}", "no setting 'prescale_gradient'; did you mean prescale_gr"),
    ):
        codes, output = finish(start_ranks([*once, f"deepspeed={mapping}"], 1))
        assert codes == [2], output
        assert told in output
        assert "Traceback" not in output
    run_ranks(once, 1)


def stop_after(processes, run, epochs):
    wait_for_epochs(run, epochs, processes)
    processes[0].send_signal(signal.SIGTERM)
    codes, output = finish(processes)
    assert codes == [75] * len(processes), output


MOVING = ["optimization.ema_decay=0.9", "checkpoints.asynchronous=true"]


@pytest.mark.parametrize(
    ("legs", "more"),
    [
        pytest.param([(1, 0), (3, 3)], MOVING, id="1-3-1"),
        pytest.param(
            [(1, 0), (2, 2), (3, 3), (2, 1)], [], marks=pytest.mark.faults, id="1-2-3-2-1"
        ),
        pytest.param(
            [(1, 0), (2, 2), (3, 3), (2, 1)],
            MOVING,
            marks=pytest.mark.faults,
            id="1-2-3-2-1-moving",
        ),
    ],
)
def test_ranks_and_zero_stage_may_change_at_each_resume(folder, legs, more):
    """Each leg has its number of ranks and its ZeRO stage, the last is 1 rank with ZeRO 0."""
    straight, winding = (f"{way}-{len(legs)}-{len(more)}" for way in ("straight", "winding"))
    run_ranks(command(folder, straight, CAE, *more), 1)
    for leg, (world_size, stage) in enumerate(legs):
        engine = [f"engine.zero_stage={stage}"]
        processes = start_ranks(command(folder, winding, CAE, *engine, *more), world_size)
        stop_after(processes, folder / winding, 2 * leg + 2)
    run_ranks(command(folder, winding, CAE, *more), 1)
    ours, theirs = losses(folder / winding), losses(folder / straight)
    assert [epoch[:2] for epoch in ours] == [epoch[:2] for epoch in theirs]
    assert [epoch[2:] for epoch in ours] == [pytest.approx(epoch[2:], rel=1e-4) for epoch in theirs]


def test_a_world_smaller_than_asked_for_is_refused(folder):
    codes, output = finish(start_ranks(command(folder, "small-world", CAE, "world_size=2"), 1))
    assert codes == [4]
    assert "2 ranks were asked for" in output


def test_divergence_is_exit_code_5_and_leaves_no_checkpoint_of_it(folder):
    wrong = command(folder, "diverged", CAE, "optimization.learning_rate=1e25")
    codes, output = finish(start_ranks(wrong, 1))
    assert codes == [5], output
    assert "learning_rate" in output


def test_the_best_checkpoint_scores_what_its_validation_scored(folder, undisturbed_transformer):
    """Weights as saved, loaded without DeepSpeed, give the validation score of the log."""
    from eeg2fmri_dist.inference.model_file import load_model
    from eeg2fmri_dist.inference.predict import predict_bold
    from eeg2fmri_dist.scores.networks import regional_correlation, regional_series
    from eeg2fmri_dist.store import Store
    from eeg2fmri_dist.training.store_facts import store_regions

    trained = load_model(resolve_weights(undisturbed_transformer, "best"))
    store = Store(folder / "store.h5")
    entry = store.recordings[2]
    assert trained.card.subjects["validation"] == [entry.subject]
    span = entry.first_sample, entry.first_sample + entry.n_samples
    regions = store_regions(store)
    series = [
        regional_series([volumes], regions)
        for volumes in (predict_bold(trained, store.eeg(*span)), store.bold(*span))
    ]
    logged = [json.loads(li) for li in (undisturbed_transformer / "log.jsonl").open()]
    at_best = next(r for r in logged if r["step"] == trained.card.step)
    assert regional_correlation(*series) == pytest.approx(at_best["validation/r_region"], abs=1e-4)
