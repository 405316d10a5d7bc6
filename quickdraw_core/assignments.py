"""Values nested by key: `--set a.b=c` read, laid over others, and flat again.

Without pydantic, which takes longer to load than `quickdraw --help` may.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from quickdraw_core.errors import ConfigError


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
