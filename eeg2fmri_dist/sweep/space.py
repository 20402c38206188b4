"""Search space: values of config keys as Optuna knows them, and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from eeg2fmri_dist.config.names.renamed import current_key
from eeg2fmri_dist.config.sweep import Parameter
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.errors import ConfigError

Scalar = None | bool | int | float | str


def suggest(trial: Any, search: Mapping[str, Parameter]) -> dict[str, Scalar]:
    """Let an Optuna trial choose a value for every key whose condition holds."""
    params: dict[str, Scalar] = {}
    for key, parameter in search.items():
        if _holds(parameter, params, search):
            params[key] = _suggest_one(trial, key, parameter)
    return params


def values_of(params: Mapping[str, Scalar], search: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the config values that labels of lists and mappings stand for."""
    today = {current_key(TrainConfig, key): label for key, label in params.items()}
    return {key: _value(search[key], label) for key, label in today.items()}


def grid(search: Mapping[str, Parameter]) -> list[dict[str, Scalar]]:
    """Return all combinations, the last key varying fastest; conditions are honored."""
    return list(_combinations(list(search), {}, search))


def first_values(search: Mapping[str, Parameter]) -> dict[str, Scalar]:
    """Return the first value of every key, whatever its condition."""
    return {
        key: parameter.low if parameter.choices is None else _label(parameter.choices[0])
        for key, parameter in search.items()
    }


def extremes(search: Mapping[str, Parameter]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each key with sets of config values that its own extreme values come in."""
    for key, parameter in search.items():
        needed = {name: _one_of(wanted)[0] for name, wanted in parameter.when.items()}
        values = parameter.choices or [parameter.low, parameter.high]
        yield key, [needed | {key: value} for value in values]


def as_overrides(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return config values, nested or dotted, as ``key.path=value``."""
    overrides = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value and "." not in key:
            overrides += as_overrides(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={flow(value)}")
    return overrides


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _combinations(
    keys: list[str], chosen: dict[str, Scalar], search: Mapping[str, Parameter]
) -> Iterator[dict[str, Scalar]]:
    if not keys:
        yield dict(chosen)
        return
    key, *rest = keys
    if not _holds(search[key], chosen, search):
        yield from _combinations(rest, chosen, search)
        return
    for label in _labels(search[key]):
        yield from _combinations(rest, chosen | {key: label}, search)


def _labels(parameter: Parameter) -> list[Scalar]:
    if parameter.choices is not None:
        return [_label(choice) for choice in parameter.choices]
    low, high, step = parameter.low, parameter.high, parameter.step or 1
    assert low is not None
    assert high is not None
    steps = itertools.takewhile(
        lambda value: value <= high + 1e-9 * abs(step), (low + n * step for n in itertools.count())
    )
    return list(steps)


def _suggest_one(trial: Any, key: str, parameter: Parameter) -> Scalar:
    if parameter.choices is not None:
        return trial.suggest_categorical(key, _labels(parameter))
    if parameter.is_integer:
        step = int(parameter.step or 1)
        return trial.suggest_int(key, parameter.low, parameter.high, log=parameter.log, step=step)
    return trial.suggest_float(
        key, parameter.low, parameter.high, log=parameter.log, step=parameter.step
    )


def _holds(
    parameter: Parameter, params: Mapping[str, Scalar], search: Mapping[str, Parameter]
) -> bool:
    return all(
        name in params and _value(search[name], params[name]) in _one_of(wanted)
        for name, wanted in parameter.when.items()
    )


def _one_of(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _label(choice: Any) -> Scalar:
    """What Optuna stores: it takes no lists and mappings."""
    return choice if isinstance(choice, Scalar) else flow(choice)


def _value(parameter: Parameter, label: Scalar) -> Any:
    if parameter.choices is None:
        return label
    for choice in parameter.choices:
        if _label(choice) == label:
            return choice
    raise ConfigError(f"{label!r} is not among the choices {parameter.choices}")
