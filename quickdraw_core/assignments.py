"""Values nested by key: `--set a.b=c` read, laid over others, and flat again.

Without pydantic, which takes longer to load than `quickdraw --help` may.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quickdraw_core.errors import ConfigError


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turns `["train.epochs=3", "seed=1"]` into `{"train": {"epochs": 3}, "seed": 1}`.

    A value is read as JSON if it is JSON (3, 0.1, true, null, "text"), else as plain text.
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
        _put(changes, keys, value)
    return changes


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"augment.shear": 0.1}` → `{"augment": {"shear": 0.1}}`: what `flattened` made flat."""
    values: dict[str, Any] = {}
    for key, value in flat.items():
        _put(values, key.split("."), dict(value) if isinstance(value, Mapping) else value)
    return values


def _put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Sets a value by its keys. A group that also has a text of its own is named by it:
    `model=net` beside `model.small_stem=true`.
    """
    *groups, last = keys
    for key in groups:
        group = values.setdefault(key, {})
        if isinstance(group, str):
            group = values[key] = {"name": group}
        if not isinstance(group, dict):
            raise ConfigError(f"--set gives {key!r} both a value and keys of its own")
        values = group
    if isinstance(value, str) and isinstance(values.get(last), dict):
        values[last]["name"] = value
    else:
        values[last] = value


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
