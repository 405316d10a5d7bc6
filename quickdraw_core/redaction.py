"""Text without the secrets in it: for messages, records and logs.

Two kinds are known: what an address holds (`user:password@`, a signature or a key in its query),
and the values of environment variables whose names say that they are secret.
"""

import logging
import os
import re
import traceback
from typing import Any
from urllib.parse import quote

HIDDEN = "…"
"""Stands where a secret stood."""

_PORT = r"\d+(?:[/?#\s,;\"']|$)"
_IN = r"(?:[^\s\"'<>]|[\"'<>](?![\s,;:)}\]]|$))"
"""A character of an address: a quote, too, but for the one that a text ends it with."""
_PASSWORD = re.compile(rf"(://(?:(?![/:@]){_IN})*):(?!{_PORT}){_IN}*@")
_LOGIN = re.compile(rf"(https?://)(?:(?![/:@]){_IN})+@", re.IGNORECASE)
"""A user alone, which is a token if a server takes one."""
_BARE = re.compile(r"(?<![\w.:/@-])([\w.-]+):[^\s:/@\"']+@(?=[\w.-])")
"""An address whose scheme was forgotten: `me:password@host`."""
_NAMES = (
    r"token|secret|passw|passphrase|pwd|signature|credential|auth|[-_]key|"
    r"(?:api|access|account|private)key"
)
_QUERY = re.compile(
    rf"([?&;#](?:[^=&;#?\s\"']*(?:{_NAMES})[^=&;#?\s\"']*|-?(?:sig|sas|key|code|pass|jwt|odbc_connect))=)"
    r"[^&;#\s\"'<>]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|CONNECTION_STRING|AUTH_STRING|"
    r"_(?:KEY|PASS|PWD|AUTH)$",
    re.IGNORECASE,
)
_SHORTEST = 6
"""A value with fewer characters is no secret, and might be a part of any word."""


def shown_address(address: str) -> str:
    """An address as it may be recorded: `http://me:…@host`, `https://host/cat.csv?sig=…`.

    The same for the same address, whatever the environment; also of a text with addresses in it.
    """
    hidden = _LOGIN.sub(rf"\1{HIDDEN}@", _PASSWORD.sub(rf"\1:{HIDDEN}@", address))
    return _QUERY.sub(rf"\1{HIDDEN}", hidden)


def without_secrets(text: str) -> str:
    """A text as it may be shown: without secrets of addresses and of the environment."""
    shown = _BARE.sub(rf"\1:{HIDDEN}@", shown_address(text))
    for secret in sorted(_secrets_of_environment(), key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    return shown


def traceback_without_secrets(error: BaseException) -> str:
    """What Python shows of an error and its causes, without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


def hide_in_logs() -> None:
    """Has all log lines of this process made without secrets, tracebacks included: Prefect sends
    those of a failed flow, with all causes, to its server.
    """
    made = logging.getLogRecordFactory()

    def make(*args: Any, **keywords: Any) -> logging.LogRecord:
        record = made(*args, **keywords)
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = traceback_without_secrets(record.exc_info[1]).rstrip("\n")
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a faulty line, which logging itself tells
            return record
        if (shown := without_secrets(text)) != text:
            record.msg, record.args = shown, None
        return record

    logging.setLogRecordFactory(make)


def _secrets_of_environment() -> set[str]:
    """Values that are secret, and what they are in an address."""
    secrets = {
        value
        for name, value in list(os.environ.items())
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST and not _is_place(value)
    }
    return secrets | {quote(secret, safe="") for secret in secrets}


def _is_place(value: str) -> bool:
    """Whether a value says where a secret is, as that of DASK_…_TLS_CLIENT_KEY does."""
    return value.startswith("/") and os.path.exists(value)  # noqa: PTH110 — never raises
