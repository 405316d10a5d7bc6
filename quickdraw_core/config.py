"""The base of every stage's configuration: frozen, strict, with errors that a person can use.

One model validates the command line, `--set a.b=c` and the parameters of a Prefect deployment.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from quickdraw_core.errors import ConfigError, nearest


class Config(BaseModel):
    """A frozen model without unknown keys; `Field(description=…)` gives each value's unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validates `values`; a fault is a one-line `ConfigError` that names key and remedy."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error)) from error

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with `changes`, nested by key, laid over it."""
        return self.parse(merged(self.model_dump(), changes))


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turns `["train.epochs=3", "seed=1"]` into `{"train": {"epochs": 3}, "seed": 1}`.

    A value is read as JSON where it is JSON (3, 0.1, true, null, "text"), else as plain text.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(
                f"--set takes key=value, found {assignment!r}; for example: --set epochs=3"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        place = changes
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set gives {key!r} both a value and keys of its own")
        place[keys[-1]] = value
    return changes


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"augment": {"shear": 0.1}}` → `{"augment.shear": 0.1}`: the keys that `--set` takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` laid over `base`, nested by key."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first fault of a validation error, in one line."""
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    name = ".".join(path) or model.__name__
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        owner = _owner(model, path[:-1])
        return f"unknown option {name!r}: {nearest(path[-1], owner.model_fields)}{more}"
    reason = fault["msg"].removeprefix("Value error, ")
    found = "" if fault["type"] == "missing" else f", found {fault['input']!r}"
    return f"option {name!r}: {reason}{found}{more}"


def _owner(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The nested model at `path`, as far as the path leads through models."""
    for key in path:
        field = model.model_fields.get(key)
        if field is None or not isinstance(field.annotation, type):
            break
        if not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return model
