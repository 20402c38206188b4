"""Former names of keys and values, on a schema made for it."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from eeg2fmri_dist.config import Schema, load_config, load_resolved
from eeg2fmri_dist.config.renamed import (
    KeysOf,
    RenamedKey,
    RenamedValue,
    current_key,
    with_current_names,
)
from eeg2fmri_dist.errors import ConfigError


class Net(Schema):
    """A net."""

    name: Literal["net"] = "net"
    loss: str = "latent"
    ratio: float = 0.25
    renamed = (RenamedKey("keep", "ratio"),)


class Line(Schema):
    """A line."""

    name: Literal["line"] = "line"
    renamed = (RenamedKey("kind", "name"),)


class Steps(Schema):
    """Steps."""

    patience: int | None = None
    rate: float = 1.0
    renamed = (RenamedKey("early_stopping", "patience"),)


class Eeg(Schema):
    """EEG."""

    reference: Literal["recorded", "average"] = "recorded"
    spatial_filter: Literal["none", "csd"] = "none"
    renamed = (RenamedValue("reference", "laplacian", "csd", new_key="spatial_filter"),)


class Config(Schema):
    """A config."""

    recipe: Literal["default", "paper"] = "default"
    model: Annotated[Net | Line, Field(discriminator="name")] = Net()
    optimization: Steps = Steps()
    eeg: Eeg = Eeg()
    renamed = (
        RenamedKey("optimisation", "optimization"),
        RenamedKey("optimization.loss", "model.loss"),
        RenamedValue("recipe", "own", "default"),
    )


class Sweep(Schema):
    """Many configs."""

    overrides: Annotated[dict[str, Any], KeysOf(Config)] = Field({})


OLD = {
    "recipe": "own",
    "model": {"name": "net", "keep": 0.5},
    "optimisation": {"early_stopping": 3, "loss": "volume"},
    "eeg": {"reference": "laplacian"},
}
NEW = {
    "recipe": "default",
    "model": {"name": "net", "ratio": 0.5, "loss": "volume"},
    "optimization": {"patience": 3},
    "eeg": {"spatial_filter": "csd"},
}


def test_keys_sections_and_values_are_read_under_their_former_names():
    before = repr(OLD)
    renamed, changes = with_current_names(Config, OLD)
    assert renamed == NEW
    assert repr(OLD) == before
    assert "optimisation is now called optimization" in map(str, changes)
    assert with_current_names(Config, NEW) == (NEW, [])


def test_a_stored_section_is_validated_under_its_former_names():
    assert Config.model_validate(OLD) == Config.model_validate(NEW)
    assert Steps.model_validate({"early_stopping": 2}).patience == 2


def test_a_discriminator_may_be_renamed():
    assert Config.model_validate({"model": {"kind": "line"}}).model == Line()


def test_a_former_name_in_a_parent_and_todays_in_the_child_are_one_key(tmp_path, caplog):
    (tmp_path / "parent.yaml").write_text("optimisation: {early_stopping: 3, rate: 0.5}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\noptimization: {patience: 5}\n")
    config = load_config(Config, child)
    assert (config.optimization.patience, config.optimization.rate) == (5, 0.5)
    assert load_config(Config, child, ["optimisation.early_stopping=7"]).optimization.patience == 7
    said = [record.message for record in caplog.records]
    parent = str(tmp_path / "parent.yaml")
    assert said.count(f"{parent}: optimisation is now called optimization") == 1
    caplog.clear()
    load_resolved(Config, child)
    assert not caplog.records


def test_both_names_with_different_values_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("optimization: {patience: 5, early_stopping: 3}\n")
    with pytest.raises(ConfigError, match=r"early_stopping and optimization\.patience are given"):
        load_config(Config, path)
    path.write_text("optimization: {patience: 3, early_stopping: 3}\n")
    assert load_config(Config, path).optimization.patience == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"optimisation.early_stopping": 3}, {"optimization.patience": 3}),
        ({"optimisation": {"early_stopping": 3}}, {"optimization": {"patience": 3}}),
        ({"model": {"name": "net", "keep": 1}}, {"model": {"name": "net", "ratio": 1}}),
        ({"eeg.reference": "average"}, {"eeg.reference": "average"}),
    ],
)
def test_keys_of_another_schema_are_renamed_nested_or_dotted(old, new):
    assert Sweep.model_validate({"overrides": old}).overrides == new


def test_the_name_of_a_key_today():
    assert current_key(Config, "optimisation.early_stopping") == "optimization.patience"
    assert current_key(Config, "optimization.rate") == "optimization.rate"
    assert current_key(Config, "no.such.key") == "no.such.key"
