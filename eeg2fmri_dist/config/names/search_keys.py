"""Keys of a search space: nested or dotted, under today's or former names."""

from __future__ import annotations

from typing import Any

from eeg2fmri_dist.config.names.renamed import Change, KeysOf, current_key, nest, with_current_names

_PARAMETER_KEYS = {"choices", "low", "high"}


def flat_parameters(search: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> parameter; what is nested (as by an override) adds to what is dotted."""
    flat: dict[str, Any] = {}
    for name, value in search.items():
        key = f"{prefix}{name}"
        is_parameter = not isinstance(value, dict) or _PARAMETER_KEYS & value.keys() or not value
        for path, parameter in (
            [(key, value)] if is_parameter else flat_parameters(value, f"{key}.").items()
        ):
            both = isinstance(parameter, dict) and isinstance(flat.get(path), dict)
            flat[path] = flat[path] | parameter if both else parameter
    return flat


class SearchedKeysOf(KeysOf):
    """Marks a field whose mapping has values to be searched below keys of another schema."""

    def rename(self, mapping: dict[str, Any]) -> tuple[dict[str, Any], list[Change]]:
        """Return dotted key -> parameter, with today's keys, choices and conditions."""
        renamed: dict[str, Any] = {}
        changes: list[Change] = []
        for key, parameter in flat_parameters(mapping).items():
            name = current_key(self.schema, key)
            if name != key:
                changes.append(Change(key, name))
            renamed[name] = self._parameter(key, parameter)
        return renamed, changes

    def _parameter(self, key: str, parameter: Any) -> Any:
        if not isinstance(parameter, dict):
            return parameter
        parameter = dict(parameter)
        if isinstance(parameter.get("choices"), list):
            parameter["choices"] = [self._value(key, choice) for choice in parameter["choices"]]
        if isinstance(parameter.get("when"), dict):
            parameter["when"] = {
                current_key(self.schema, name): self._condition(name, wanted)
                for name, wanted in parameter["when"].items()
            }
        return parameter

    def _condition(self, key: str, wanted: Any) -> Any:
        if isinstance(wanted, list):
            return [self._value(key, value) for value in wanted]
        return self._value(key, wanted)

    def _value(self, key: str, value: Any) -> Any:
        """A value under today's names.

        As it is, where a part of it belongs to another section today: that is found when the value
        is used as an override.
        """
        below: Any = with_current_names(self.schema, nest(tuple(key.split(".")), value))[0]
        for part in current_key(self.schema, key).split("."):
            if not isinstance(below, dict) or below.keys() != {part}:
                return value
            below = below[part]
        return below
