"""Whether a Prefect server is configured, found out without importing Prefect, which takes longer
than a small job.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME = "PREFECT_API_URL"


def is_server_named(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `PREFECT_API_URL` or the active profile names a server, or what Prefect reads of
    the working folder: `.env`, `prefect.toml`, `[tool.prefect]` of `pyproject.toml`.

    A file that cannot be read names none here; Prefect itself, if it is used, says so.
    """
    if _NAME in environment:
        return bool(environment[_NAME])
    here = _value(_toml(Path("pyproject.toml")), "tool", "prefect", "api", "url")
    there = _value(_toml(Path("prefect.toml")), "api", "url")
    return bool(_dotenv(Path(".env")).get(_NAME) or there or here or _of_profile(environment))


def _of_profile(environment: Mapping[str, str]) -> str | None:
    home = Path(environment.get("PREFECT_HOME") or "~/.prefect")
    profiles = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        config = _toml(profiles.expanduser())
    except RuntimeError:  # a user without a home
        return None
    active = environment.get("PREFECT_PROFILE") or config.get("active")
    return _value(config, "profiles", str(active), _NAME)


def _dotenv(path: Path) -> Mapping[str, str | None]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(path)
    except (OSError, ValueError):
        return {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _value(table: Any, *keys: str) -> str | None:
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table if isinstance(table, str) else None
