"""The command line of all verbs, run as a user runs it."""

import subprocess
import sys

import pytest

from eeg2fmri_dist.cli.command_line import View, run_verb
from eeg2fmri_dist.config import Schema
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import DataError, SuiteError
from tests.helpers.repository import ROOT

VERBS = ("simulate", "preprocess", "train", "evaluate", "predict", "compare", "export", "sweep")


class Settings(Schema):
    """Settings for a test."""

    size: int = 1


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("size: 2\n")
    return str(path)


def call(argv, act=lambda config: None):
    return run_verb(Settings, act, lambda config: [f"size {config.size}"], argv)


def test_acts_and_returns_zero(config_file):
    seen = []
    assert call([config_file, "size=5"], seen.append) == 0
    assert seen[0].size == 5


def test_dry_run_and_print_config_do_not_act(config_file, capsys):
    def act(config):
        raise AssertionError("acted")

    assert call([config_file, "--dry-run"], act) == 0
    assert call([config_file, "--print-config", "size=3"], act) == 0
    assert capsys.readouterr().out == "size 2\nsize: 3\n"


def test_a_view_is_shown_in_place_of_acting(config_file, capsys):
    def act(config):
        raise AssertionError("acted")

    views = [View("state", "shows the state", lambda config: print("size is", config.size))]
    assert run_verb(Settings, act, lambda config: [], [config_file, "--state"], views) == 0
    assert capsys.readouterr().out == "size is 2\n"


@pytest.mark.parametrize("kind", SuiteError.__subclasses__() + DataError.__subclasses__())
def test_errors_become_their_exit_code_without_a_traceback(config_file, capsys, kind):
    def act(config):
        raise kind("it is broken", where="sub-01", remedy="mend it")

    assert call([config_file], act) == kind.exit_code
    shown = capsys.readouterr().err
    assert "sub-01: it is broken" in shown
    assert "mend it" in shown
    assert "Traceback" not in shown


def test_a_full_disk_is_an_environment_error(config_file, capsys):
    def act(config):
        raise OSError(28, "No space left on device", "store.h5")

    assert call([config_file], act) == 4
    assert "no space left" in capsys.readouterr().err


def test_ctrl_c_says_that_the_same_command_continues(config_file, capsys):
    def act(config):
        raise KeyboardInterrupt

    assert call([config_file], act) == 130
    assert "continues" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_keys_and_imports_nothing_heavy(verb):
    heavy = "torch ants mne nilearn h5py dask deepspeed scipy matplotlib numpy optuna submitit"
    code = (
        f"import sys, runpy; sys.argv = ['{verb}.py', '--help']\n"
        f"try: runpy.run_path('launch/{verb}.py', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"loaded = [name for name in '{heavy}'.split() if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "keys of the config" in done.stdout
    assert "75 stopped cleanly" in done.stdout


def test_without_arguments_only_the_config_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        call([])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("arguments are required: CONFIG.yaml\n")


def test_overrides_may_stand_between_flags(config_file, capsys):
    assert call(["--print-config", config_file, "size=3", "--debug"]) == 0
    assert capsys.readouterr().out == "size: 3\n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_config_file_is_exit_code_2(verb):
    done = subprocess.run(
        [sys.executable, f"launch/{verb}.py", "nowhere.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "cannot read the config file" in done.stderr
    assert "Traceback" not in done.stderr


def test_print_config_of_a_training_shows_what_deepspeed_is_told_and_is_a_config(tmp_path):
    def print_config(*arguments):
        done = subprocess.run(
            [sys.executable, "launch/train.py", *arguments, "--print-config"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = print_config("configs/train/cae.yaml", "engine.zero_stage=2", "world_size=4")
    assert "#   stage: 2" in printed
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert print_config(str(again)) == printed


def test_a_path_that_cannot_be_used_is_an_environment_error(tmp_path, capsys):
    config = tmp_path / "settings.yaml"
    config.write_text("size: 2\n")

    def act(_):
        (config / "below").mkdir(parents=True)

    assert call([str(config)], act) == 4
    shown = capsys.readouterr().err
    assert "a file stands where a folder is needed (Not a directory)" in shown
    assert "give another path" in shown


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "launch/simulate.py", "configs/simulate/demo.yaml", "--print-config"]
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started.stdout.close()  # as `head` does
    assert started.stderr.read() == ""
    assert started.wait(timeout=60) == 128 + 13


def help_of(key, capsys):
    with pytest.raises(SystemExit) as stop:
        run_verb(TrainConfig, lambda config: None, lambda config: [], ["--help", key])
    return stop.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    ("key", "first", "prefix"),
    [
        ("model.unet", "model, 3-D U-Net", "model."),
        ("optimization", "optimization:  training steps", "optimization."),
        ("data.window", "data.window  (int; default 32)", "data.window"),
        ("tokenizer.d_token", "tokenizer.d_token  (int; default 64)", "tokenizer.d_token"),
    ],
)
def test_help_of_a_section_or_key_shows_it_alone(capsys, key, first, prefix):
    code, shown = help_of(key, capsys)
    lines = shown.out.splitlines()
    assert code == 0
    assert lines[0].startswith(first)
    assert all(line.startswith(prefix) for line in lines[1:])
    assert "teacher" not in shown.out


def test_help_of_a_key_of_several_variants_shows_each(capsys):
    _, shown = help_of("model.widths", capsys)
    assert "default [16, 32, 64]" in shown.out
    assert "default [32, 64, 128]" in shown.out


@pytest.mark.parametrize(("key", "nearest"), [("optimiz", "optimi"), ("model.unett", "model.unet")])
def test_help_of_an_unknown_section_names_the_nearest(capsys, key, nearest):
    code, shown = help_of(key, capsys)
    assert code == 2
    assert nearest in shown.err
    assert not shown.out


def test_help_beside_a_config_file_shows_all(config_file, capsys):
    for argv in (["--help", config_file], [config_file, "--help"], ["-h"]):
        with pytest.raises(SystemExit) as stop:
            call(argv)
        assert stop.value.code == 0
        assert "keys of the config" in capsys.readouterr().out
