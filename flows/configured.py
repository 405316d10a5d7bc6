"""Whether a Prefect server is configured, found out without importing Prefect, which takes longer
than a small job.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME = "PREFECT_API_URL"
_RESULTS = "PREFECT_RESULTS_LOCAL_STORAGE_PATH"


def is_server_named(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `PREFECT_API_URL` or the active profile names a server, or what Prefect reads of
    the working folder: `.env`, `prefect.toml`, `[tool.prefect]` of `pyproject.toml`.

    A file that cannot be read names none here; Prefect itself, if it is used, says so.
    """
    return bool(_setting(environment, _NAME, "api", "url"))


def results_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where Prefect keeps results, by the same settings; None for a user without a home."""
    named = _setting(environment, _RESULTS, "results", "local_storage_path")
    try:
        return Path(named).expanduser() if named else _home(environment) / "storage"
    except RuntimeError:
        return None


def _setting(environment: Mapping[str, str], name: str, *keys: str) -> str | None:
    """A setting by its variable's name, or by its keys in a TOML file."""
    if name in environment:
        return environment[name]
    here = _value(_toml(Path("pyproject.toml")), "tool", "prefect", *keys)
    there = _value(_toml(Path("prefect.toml")), *keys)
    return _dotenv(Path(".env")).get(name) or there or here or _of_profile(environment, name)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("PREFECT_HOME") or "~/.prefect").expanduser()


def _of_profile(environment: Mapping[str, str], name: str) -> str | None:
    try:
        home = _home(environment)
        profiles = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
        config = _toml(profiles.expanduser())
    except RuntimeError:  # a user without a home
        return None
    active = environment.get("PREFECT_PROFILE") or config.get("active")
    return _value(config, "profiles", str(active), name)


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
