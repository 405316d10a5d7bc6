"""Secrets of addresses: taken out where an address comes in, put back where it is used.

What a configuration, a run folder, Prefect or MLflow records is `http://me:…@host`. The whole
address stays in this process and in the environment of those that it starts. A later command
needs it again: in `MLFLOW_TRACKING_URI`, or as MLflow's own user and password.
"""

import hashlib
import os
from typing import Any
from urllib.parse import unquote, urlsplit

from quickdraw_core.errors import ConfigError
from quickdraw_core.redaction import HIDDEN, shown_address

_MEMORY = "QUICKDRAW_ADDRESS_"
"""Begins the names of variables, each of one address: the system limits the length of a variable
to less than hundreds of signed addresses take.
"""
_TRACKING = "MLFLOW_TRACKING_URI"
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_WEB = ("http", "https")
_lent: dict[str, tuple[str, str | None]] = {}
"""Variables that hold the login of an address now: what they hold, and what they held before."""


def set_apart(address: str) -> str:
    """The address as it may be recorded. `whole_address` gives the whole one back.

    A path stays as it is, also that of a database.
    """
    if not _may_hold_a_secret(address):
        return address
    shown = shown_address(address)
    if shown != address:
        os.environ[_variable(shown)] = address
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
    """The address with its secrets. Raises `ConfigError` if they are not known here."""
    if HIDDEN not in shown or not _may_hold_a_secret(shown):
        return shown
    address = os.environ.get(_variable(shown)) or os.environ.get(_TRACKING, "")
    if shown_address(address) != shown:
        raise ConfigError(
            f"the secret of {shown} is not recorded anywhere; give the whole address again, or "
            f"set {_TRACKING} if it is MLflow's"
        )
    return address


def tracking_address(shown: str) -> str:
    """The address for MLflow's client. A web server's login goes into the environment, where the
    client looks for it: its messages show addresses as they are. It stays there until another
    address is asked for, whose server must not get it.
    """
    _take_back()
    if HIDDEN not in shown or urlsplit(shown).scheme not in _WEB:
        return whole_address(shown)
    try:
        parts = urlsplit(whole_address(shown))
    except ConfigError:  # MLflow may have a login of its own: in its variables, in its file
        parts = urlsplit(shown)
    else:
        if not parts.password:  # a token as the user, for which MLflow has no variable
            return parts.geturl()
        _lend(_USER, unquote(parts.username or ""))
        _lend(_PASSWORD, unquote(parts.password))
    return without_login(parts.geturl())


def without_login(address: str) -> str:
    """An address for a browser, a message or a note: without user and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _may_hold_a_secret(address: str) -> bool:
    """False for paths, also of databases, whatever they look like."""
    return "://" in address and not address.startswith(("sqlite:", "file:"))


def _variable(shown: str) -> str:
    return _MEMORY + hashlib.sha256(shown.encode()).hexdigest()[:16]


def _lend(name: str, value: str) -> None:
    _lent[name] = (value, os.environ.get(name))
    os.environ[name] = value


def _take_back() -> None:
    while _lent:
        name, (value, before) = _lent.popitem()
        if os.environ.get(name) != value:
            continue  # somebody else's by now
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
