"""Former names of keys and values, on a schema made for the purpose."""

import logging
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from eeg2fmri_dist.config import (
    Schema,
    describe_key,
    load_config,
    load_resolved,
    to_yaml,
    with_current_names,
)
from eeg2fmri_dist.config.names.renamed import KeysOf, RenamedKey, RenamedValue
from eeg2fmri_dist.config.names.search_keys import SearchedKeysOf
from eeg2fmri_dist.config.reading import loading
from eeg2fmri_dist.errors import ConfigError


class Network(Schema):
    name: Literal["network"] = "network"
    renamed = (RenamedKey("kind", "name"), RenamedKey("teacher_keep", "teacher_forcing"))
    teacher_forcing: float = 0.25
    loss: str = "token"
    widths: tuple[int, ...] = (8,)


class Linear(Schema):
    name: Literal["linear"] = "linear"
    renamed = (RenamedKey("kind", "name"), RenamedKey("products", "quadratic"))
    quadratic: bool = False


class Steps(Schema):
    renamed = (RenamedKey("early_stopping", "patience"),)
    patience: int = 5
    rate: float = 0.1


class Eeg(Schema):
    renamed = (
        RenamedValue("reference", "laplacian", "csd", new_key="spatial_filter"),
        RenamedKey("exclude", "drop_channels"),
    )
    reference: Literal["recorded", "average"] = "recorded"
    spatial_filter: Literal["none", "csd"] = "none"
    drop_channels: tuple[str, ...] = ()


class Toy(Schema):
    """A toy."""

    renamed = (
        RenamedKey("optimisation", "optimization"),
        RenamedKey("optimization.loss", "model.loss"),
        RenamedValue("recipe", "own", "default"),
        RenamedKey("drop_volumes", "dummy_scans"),
    )
    recipe: Literal["default", "paper"] = "default"
    dummy_scans: int = 5
    model: Annotated[Network | Linear, Field(discriminator="name")] = Network()
    optimization: Steps = Steps()
    eeg: Eeg = Eeg()
    runs: tuple[Steps, ...] = ()
    named: dict[str, Steps] = Field({})


class Sweep(Schema):
    overrides: Annotated[dict[str, Any], KeysOf(Toy)] = Field({})
    search: Annotated[dict[str, Any], SearchedKeysOf(Toy)] = Field({})


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    loading._say_once.cache_clear()
    for name in loading._RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path):
    def write(text, name="toy.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"optimisation": {"rate": 1.0}}, {"optimization": {"rate": 1.0}}),
        ({"optimisation": {"early_stopping": 3}}, {"optimization": {"patience": 3}}),
        ({"optimization": {"early_stopping": 3}}, {"optimization": {"patience": 3}}),
        ({"model": {"name": "network"}, "optimisation": {"loss": "volume"}},
         {"model": {"name": "network", "loss": "volume"}}),
        ({"recipe": "own"}, {"recipe": "default"}),
        ({"recipe": "paper"}, {"recipe": "paper"}),
        ({"model": {"kind": "linear", "products": True}},
         {"model": {"name": "linear", "quadratic": True}}),
        ({"model": {"kind": "network", "teacher_keep": 0.5}},
         {"model": {"name": "network", "teacher_forcing": 0.5}}),
        ({"eeg": {"reference": "laplacian"}}, {"eeg": {"spatial_filter": "csd"}}),
        ({"eeg": {"reference": "average"}}, {"eeg": {"reference": "average"}}),
        ({"eeg": {"exclude": ["ECG"]}}, {"eeg": {"drop_channels": ["ECG"]}}),
        ({"runs": [{"early_stopping": 3}]}, {"runs": [{"patience": 3}]}),
        ({"named": {"a": {"early_stopping": 3}}}, {"named": {"a": {"patience": 3}}}),
    ],
)  # fmt: skip
def test_old_names_mean_the_new_ones_wherever_a_config_is_validated(old, new):
    assert with_current_names(Toy, old)[0] == new
    assert Toy.model_validate(old) == Toy.model_validate(new)


def test_what_is_given_stays_as_it_is():
    given = {"optimisation": {"early_stopping": 3}}
    with_current_names(Toy, given)
    assert given == {"optimisation": {"early_stopping": 3}}


def test_old_and_new_names_of_parent_child_and_command_line_are_one_key(write):
    write(
        "optimisation: {early_stopping: 1, rate: 0.5}\nmodel: {kind: network, teacher_keep: 0.1}\n",
        "old.yaml",
    )
    child = write("extends: old.yaml\noptimization: {patience: 2}\n")
    config = load_config(Toy, child, ["model.teacher_forcing=0.3"])
    assert config.optimization == Steps(patience=2, rate=0.5)
    assert config.model.teacher_forcing == 0.3
    write("optimization: {patience: 2, rate: 0.5}\n", "new.yaml")
    child = write("extends: new.yaml\noptimisation: {early_stopping: 4}\n")
    assert load_config(Toy, child).optimization == Steps(patience=4, rate=0.5)


def test_overrides_under_old_names(write):
    path = write("optimization: {patience: 1, rate: 0.5}\nmodel: {name: network, widths: [16]}\n")
    one = load_config(Toy, path, ["optimisation.loss=volume"])
    assert one.model == Network(loss="volume", widths=(16,))
    assert one.optimization == Steps(patience=1, rate=0.5)
    # A mapping takes the place of a whole section.
    whole = load_config(Toy, path, ["optimisation={early_stopping: 7, loss: volume}"])
    assert whole.optimization == Steps(patience=7)
    assert whole.model == Network(loss="volume", widths=(16,))


def test_both_names_with_different_values_are_refused(write):
    path = write("optimization: {patience: 2}\noptimisation: {early_stopping: 3}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Toy, path)
    assert "different values (3, 2)" in str(caught.value)
    assert caught.value.where == str(path)
    assert "optimization.patience alone" in str(caught.value)
    same = write("optimization: {patience: 3}\noptimisation: {early_stopping: 3}\n")
    assert load_config(Toy, same).optimization.patience == 3


def test_a_line_on_the_log_names_each_key_once(write, caplog):
    path = write("optimisation: {early_stopping: 3}\n")
    for _ in range(3):
        load_config(Toy, path, ["recipe=own"])
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"{path}: optimisation is now called optimization",
        f"{path}: optimization.early_stopping is now called optimization.patience",
        "override recipe: recipe: own is now called recipe: default",
    ]


def test_other_ranks_and_old_run_folders_say_nothing(write, caplog, monkeypatch):
    path = write("optimisation: {early_stopping: 3}\n")
    with caplog.at_level(logging.DEBUG):
        assert load_resolved(Toy, path).optimization.patience == 3
        monkeypatch.setenv("SLURM_PROCID", "0")
        monkeypatch.setenv("RANK", "1")
        load_config(Toy, path)
    assert not caplog.records


def test_a_resolved_config_of_before_has_moved_keys_of_other_models(write):
    """Every run wrote `optimisation.loss`, also those of models that have no such key."""
    path = write("model: {name: linear, quadratic: false}\noptimisation: {loss: token, rate: 1}\n")
    assert load_resolved(Toy, path).model == Linear()
    assert load_resolved(Toy, path).optimization.rate == 1


def test_what_is_written_has_todays_names(write):
    text = to_yaml(load_config(Toy, write("optimisation: {early_stopping: 3}\nrecipe: own\n")))
    assert "patience: 3" in text
    assert "early_stopping" not in text


def test_an_unknown_key_below_an_old_name_is_explained(write):
    with pytest.raises(ConfigError, match=r"unknown key 'optimization\.patence', did you mean"):
        load_config(Toy, write("optimisation: {patence: 3}\n"))


def test_search_spaces_and_overrides_of_sweeps():
    sweep = Sweep.model_validate(
        {
            "overrides": {"optimisation": {"rate": 1.0}, "model.teacher_keep": 0.5},
            "search": {
                "optimisation.rate": {"low": 0.1, "high": 1.0},
                "recipe": {"choices": ["own", "paper"]},
                "model": {
                    "choices": [{"kind": "network"}, {"teacher_keep": 1.0}],
                    "when": {"recipe": "own", "optimisation.rate": [0.1, 1.0]},
                },
                "optimisation": {"choices": [{"loss": "volume"}, {"early_stopping": 2}]},
            },
        }
    )
    assert sweep.overrides == {"optimization": {"rate": 1.0}, "model.teacher_forcing": 0.5}
    assert sweep.search == {
        "optimization.rate": {"low": 0.1, "high": 1.0},
        "recipe": {"choices": ["default", "paper"]},
        "model": {
            "choices": [{"name": "network"}, {"teacher_forcing": 1.0}],
            "when": {"recipe": "default", "optimization.rate": [0.1, 1.0]},
        },
        # The first belongs to another section: it is renamed when it is used.
        "optimization": {"choices": [{"loss": "volume"}, {"patience": 2}]},
    }


def test_a_search_space_can_be_changed_from_the_command_line_by_either_name(write):
    path = write("search: {optimisation.rate: {low: 0.1, high: 1.0}}\n")
    for name in ("optimisation", "optimization"):
        changed = load_config(Sweep, path, [f"search.{name}.rate.low=0.2"])
        assert changed.search == {"optimization.rate": {"low": 0.2, "high": 1.0}}


def test_help_finds_a_key_by_its_former_name():
    assert describe_key(Toy, "optimisation.early_stopping")[0].startswith("optimization.patience")
