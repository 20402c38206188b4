"""Config files, overrides and the messages for wrong ones."""

import re

import pytest
import yaml

from eeg2fmri_dist.config import describe, load_config, to_yaml
from eeg2fmri_dist.config.evaluate import CompareConfig, EvaluateConfig
from eeg2fmri_dist.config.export import ExportConfig
from eeg2fmri_dist.config.predict import PredictConfig
from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.config.simulate import SimulateConfig
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import SplitConfig, TrainConfig
from eeg2fmri_dist.errors import ConfigError
from tests.helpers.repository import ROOT

CONFIGS = ROOT / "configs"
SCHEMAS = {
    "simulate": SimulateConfig,
    "preprocess": PreprocessConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "compare": CompareConfig,
    "export": ExportConfig,
    "sweep": SweepConfig,
}
SHIPPED = [path for kind in SCHEMAS for path in sorted((CONFIGS / kind).rglob("*.yaml"))]


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "preprocess.yaml"
    path.write_text("source: {name: noddi, path: data}\noutput: store.h5\n")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_config_loads_and_prints_back(path, tmp_path):
    schema = SCHEMAS[path.relative_to(CONFIGS).parts[0]]
    config = load_config(schema, path)
    printed = tmp_path / "printed.yaml"
    printed.write_text(to_yaml(config))
    assert load_config(schema, printed) == config


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_help_explains_every_key(schema):
    for line in describe(schema):
        is_variant = ", " in line.partition("(")[0]
        explained = re.search(r"(; (default .*|required)\)|:)  \S", line)
        assert is_variant or explained, f"no description: {line}"


@pytest.mark.parametrize("key", ["cluster.dashboard", "bold.slice_timing"])
def test_off_is_a_word(config_file, key):
    """YAML reads it as false."""
    section, name = key.split(".")
    config = load_config(PreprocessConfig, config_file, [f"{key}=off"])
    assert getattr(getattr(config, section), name) == "off"
    with pytest.raises(ConfigError, match=name):
        load_config(PreprocessConfig, config_file, [f"{key}=on"])


def test_overrides_are_yaml_and_the_last_wins(config_file):
    config = load_config(
        PreprocessConfig, config_file, ["eeg.band_hz=[2, 20]", "dummy_scans=3", "dummy_scans=4"]
    )
    assert config.eeg.band_hz == (2.0, 20.0)
    assert config.dummy_scans == 4


def test_exponents_without_a_point_are_numbers(tmp_path):
    # YAML 1.1 reads 1e-5 as a string.
    path = tmp_path / "train.yaml"
    path.write_text("store: s\noutput: o\nmodel: {name: cae}\n")
    config = load_config(TrainConfig, path, ["optimization.learning_rate=1e-5"])
    assert config.optimization.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eeg.sfreqhz=3", "unknown key 'eeg.sfreqhz', did you mean 'eeg.sfreq_hz'"),
        ("sauce.path=x", "unknown key 'sauce', did you mean 'source'"),
        ("eeg.sfreq_hz=fast", "'eeg.sfreq_hz' = 'fast'"),
        ("bold.min_dice=1.5", "less than or equal to 1"),
        ("cluster.name=lsf", "'local', 'slurm', 'slurm-jobs' or 'mpi'"),
        ("eeg.band_hz=[30, 1]", "must rise"),
        ("eeg.marker='('", "not a regular expression"),
        ("bold.grid=[32, 32]", "'bold.grid' = [32, 32]: too few values"),
        ("dummy_scans", "not of the form key.path=value"),
        ("dummy_scans=[", "not valid YAML"),
    ],
)
def test_wrong_values_name_the_key(config_file, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(PreprocessConfig, config_file, [override])
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), ("a: [", "not valid YAML"), ("- 1", "mapping"), ("{}", "required")],
)
def test_unusable_files(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(PreprocessConfig, path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.layer=3", "unknown key 'model.layer', did you mean 'model.layers'"),
        ("model.layers=0", "'model.layers' = 0"),
        ("model.name=vit", "'vit'"),
        ("model={d_eeg: 3}", "key 'model.name' is required"),
        ("engine.precision=fp8", "'fp32', 'bf16' or 'fp16'"),
        ("split.fractions=[0.5,0.2,0.2]", "add up to 1"),
    ],
)
def test_messages_do_not_name_members_of_unions(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, CONFIGS / "train" / "transformer.yaml", [override])
    assert message in str(caught.value)


def test_a_transformer_needs_a_tokenizer(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("store: s\noutput: o\nmodel: {name: transformer}\n")
    with pytest.raises(ConfigError, match="tokenizer is required"):
        load_config(TrainConfig, path)


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (PredictConfig, {"run": "r", "eeg": "e.vhdr", "output": "p.txt"}, "NIfTI file"),
        (
            PredictConfig,
            {"run": "r", "eeg": "e.vhdr", "output": "p.nii.gz", "marker": "("},
            "no regular expression",
        ),
        (SplitConfig, {"fractions": [0.5, 0.25, float("inf")]}, "finite number"),
    ],
)
def test_values_that_would_fail_late_are_refused_at_once(tmp_path, schema, values, message):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message):
        load_config(schema, path)


def test_numeric_subject_ids_are_text(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: leave_one_subject_out\ntest_subject: 32\n")
    assert load_config(SplitConfig, path).test_subject == "32"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1: 2", "a key is not text: YAML reads it as 1 (int)"),
        (
            "model: {name: cae, yes: 3}",
            "a key of 'model' is not text: YAML reads it as True (bool)",
        ),
        ("deepspeed: {a: {null: 4}}", "a key of 'deepspeed.a' is not text: YAML reads it as None"),
        ("deepspeed: {a: [{2020-01-01: 4}]}", "as datetime.date(2020, 1, 1) (date)"),
    ],
)
def test_keys_that_are_no_text_are_named(tmp_path, content, message):
    path = tmp_path / "train.yaml"
    path.write_text(f"store: s\noutput: o\n{content}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, path)
    assert message in str(caught.value)
    assert "write it in quotes" in str(caught.value)


def test_an_override_with_a_key_that_is_no_text_is_refused(config_file):
    with pytest.raises(ConfigError, match="a key of 'eeg' is not text"):
        load_config(PreprocessConfig, config_file, ["eeg={1: 2}"])


@pytest.mark.parametrize("kind", ["preprocess", "sweep", "simulate"])
def test_a_config_of_another_command_is_called_that(kind):
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, CONFIGS / kind / "demo.yaml")
    assert "looks like the config of another command" in str(caught.value)
    assert "`launch/train.py`" in str(caught.value)
    assert ", known here:" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widths=7", "'model.widths' = 7: a list is expected, such as [1, 2]"),
        ("model=cae", "'model' = 'cae': keys of its own are expected below it"),
        ("monitor.profile=3", "'monitor.profile' = 3: keys of its own are expected below it"),
        (
            "deepspeed={gradient_clipping: 1}",
            "gradient_clipping follows from optimization.gradient_clipping: set that",
        ),
        ("deepspeed=text", "'deepspeed' = 'text': keys of its own are expected below it"),
        ("store=3", "'store' = 3: a path is expected; in quotes if it looks like a number"),
        ("threads=100000000", "'threads' = 100000000: Input should be less than or equal to"),
    ],
)
def test_wrong_types_are_explained_in_the_words_of_yaml(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, CONFIGS / "train" / "cae.yaml", [override])
    assert message in str(caught.value)
    assert "pathlib" not in str(caught.value)


def test_a_file_of_nearly_the_same_name_is_offered():
    with pytest.raises(ConfigError, match=r"ridge_products\.yaml: cannot read") as caught:
        load_config(TrainConfig, CONFIGS / "train" / "ridge_products.yaml")
    assert "train/ridge_quadratic.yaml" in caught.value.remedy
