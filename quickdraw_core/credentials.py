"""Secrets of addresses: taken out where an address comes in, put back where it is used.

What a configuration, a run folder, Prefect or MLflow records is `http://me:…@host`. The whole
address stays in this process and in the environment of those that it starts. A later command
takes it from where it has it from: `MLFLOW_TRACKING_URI`, or MLflow's own user and password.
"""

import json
import os
from typing import Any
from urllib.parse import unquote, urlsplit

from quickdraw_core.errors import ConfigError
from quickdraw_core.redaction import HIDDEN, shown_address

_MEMORY = "QUICKDRAW_ADDRESSES"
_TRACKING = "MLFLOW_TRACKING_URI"
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_WEB = ("http", "https")


def set_apart(address: str) -> str:
    """The address as it may be recorded. `whole_address` gives the whole one back.

    A path stays as it is, also that of a database: whatever it looks like, it is no secret.
    """
    if "://" not in address or address.startswith(("sqlite:", "file:")):
        return address
    shown = shown_address(address)
    if shown != address:
        os.environ[_MEMORY] = json.dumps(_remembered() | {shown: address})
    return shown


def set_apart_within(values: Any) -> Any:
    """Plain values (dicts, lists, tuples, texts, however deep) with the secrets of all addresses
    set apart; what is of another type stays as it is.
    """
    if isinstance(values, str):
        return set_apart(values)
    if isinstance(values, dict):
        return {key: set_apart_within(value) for key, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(set_apart_within(value) for value in values)
    return values


def whole_address(shown: str) -> str:
    """The address with its secrets. Raises `ConfigError` where they are not known here."""
    if HIDDEN not in shown:
        return shown
    given = os.environ.get(_TRACKING, "")
    address = given if shown_address(given) == shown else _remembered().get(shown)
    if address is None:
        raise ConfigError(
            f"the secret of {shown} is not recorded anywhere; give the whole address again, or "
            f"set {_TRACKING} where it is MLflow's"
        )
    return address


def tracking_address(shown: str) -> str:
    """The address for MLflow's client; a web server's login goes into the environment, where that
    client looks for it, since its messages tell addresses as they are.
    """
    if HIDDEN not in shown or urlsplit(shown).scheme not in _WEB:
        return whole_address(shown)
    try:
        parts = urlsplit(whole_address(shown))
    except ConfigError:  # MLflow may have a login of its own: in its variables, in its file
        parts = urlsplit(shown)
    else:
        if not parts.password:  # a token as the user, for which MLflow has no variable
            return parts.geturl()
        os.environ[_USER] = unquote(parts.username or "")
        os.environ[_PASSWORD] = unquote(parts.password)
    return without_login(parts.geturl())


def without_login(address: str) -> str:
    """An address for a browser, a message or a note: without user and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _remembered() -> dict[str, str]:
    remembered: dict[str, str] = json.loads(os.environ.get(_MEMORY, "{}"))
    return remembered
