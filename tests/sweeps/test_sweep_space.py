"""Search spaces: conditions, grids, values that Optuna cannot hold, and what is refused."""

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eeg2fmri_dist.config.sweep import Parameter, SweepConfig
from eeg2fmri_dist.sweep.space import as_overrides, flow, grid, suggest, values_of


def parameters(**search):
    return {key: Parameter.model_validate(value) for key, value in search.items()}


def test_a_key_is_searched_only_where_its_condition_holds():
    search = parameters(
        kind={"choices": ["a", "b"]}, size={"low": 1, "high": 3, "when": {"kind": ["a"]}}
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        params = suggest(study.ask(), search)
        assert ("size" in params) == (params["kind"] == "a")
    assert grid(search) == [
        {"kind": "a", "size": 1},
        {"kind": "a", "size": 2},
        {"kind": "a", "size": 3},
        {"kind": "b"},
    ]


def test_a_condition_may_ask_for_a_list():
    search = parameters(
        widths={"choices": [[8], [8, 16]]}, depth={"choices": [1, 2], "when": {"widths": [[8]]}}
    )
    assert [values_of(point, search) for point in grid(search)] == [
        {"widths": [8], "depth": 1},
        {"widths": [8], "depth": 2},
        {"widths": [8, 16]},
    ]


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "1", "true", ""])
choices = scalars | st.lists(scalars, max_size=3)


def differ(values):
    return all(value not in values[:place] for place, value in enumerate(values))


@given(st.lists(choices, min_size=1, max_size=5).filter(differ))
def test_every_choice_comes_back_as_it_was_given(given_choices):
    search = parameters(key={"choices": given_choices})
    found = [values_of(point, search)["key"] for point in grid(search)]
    assert repr(found) == repr(given_choices)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(values)
def test_a_value_survives_the_command_line(value):
    (override,) = as_overrides({"model": {"key": value}})
    key, _, text = override.partition("=")
    assert key == "model.key"
    assert "\n" not in flow("plain")
    assert yaml.safe_load(text) == value


@given(st.integers(-5, 5), st.integers(0, 10), st.integers(1, 4))
def test_a_grid_of_integers_is_a_range(low, width, step):
    search = parameters(key={"low": low, "high": low + width, "step": step})
    found = [point["key"] for point in grid(search)]
    assert found == list(range(low, low + width + 1, step))


def test_a_grid_of_decimal_steps_has_its_last_value():
    search = parameters(key={"low": 0.0, "high": 0.3, "step": 0.1})
    assert [point["key"] for point in grid(search)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({}, "either choices, or low and high"),
        ({"low": 1}, "low <= high"),
        ({"choices": [1, True]}, "there twice"),
        ({"low": 2, "high": 1}, "low <= high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "starts above 0"),
        ({"low": 1, "high": 4, "step": 0.5}, "integer step"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(parameter, message):
    with pytest.raises(ValidationError, match=message):
        Parameter.model_validate(parameter)


def sweep(**changes):
    values = {
        "output": "o",
        "base": "b",
        "budget": {"trials": 1},
        "search": {"a": {"choices": [1]}},
    }
    return SweepConfig.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {}}, "give base and search, or folds"),
        ({"budget": {}}, "never ends by itself"),
        ({"search": {"a": {"choices": [1], "when": {"b": 1}}}}, "'b' is not searched above"),
        ({"sampler": {"name": "grid"}, "search": {"a": {"low": 0.0, "high": 1.0}}}, "a grid needs"),
        ({"folds": {"models": {"cae": "c"}}}, "folds take no search"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        sweep(**changes)


def test_search_keys_may_be_nested_and_overridden():
    given = {
        "model.size": {"low": 1, "high": 4},
        "model": {"size": {"high": 8}, "rate": {"choices": [1]}},
    }
    config = sweep(search=given)
    assert list(config.search) == ["model.size", "model.rate"]
    assert config.search["model.size"].high == 8
