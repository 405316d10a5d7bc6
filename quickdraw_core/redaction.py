"""Text without the secrets in it: for messages, records and logs.

Two kinds are known: what an address holds (`user:password@`, a signature or a key in its query),
and the values of environment variables whose names say that they are secret.
"""

import os
import re

HIDDEN = "…"
"""Stands where a secret stood."""

_PORT = r"\d+(?:[/?#\s,;\"']|$)"
_PASSWORD = re.compile(rf"(://[^\s/:@\"']*):(?!{_PORT})[^\s\"'<>]*@")
_LOGIN = re.compile(r"(https?://)[^\s/:@\"'<>]+@")
"""A user alone, which is a token where a server takes one."""
_NAMES = r"token|secret|passw|pwd|signature|credential|api[-_]?key|access[-_]?key|auth"
_QUERY = re.compile(
    rf"([?&](?:[^=&\s\"']*(?:{_NAMES})[^=&\s\"']*|sig|key|code)=)[^&\s\"'<>]+", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|ACCESS_KEY|AUTH_STRING")
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
    shown = shown_address(text)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST:
            shown = shown.replace(value, HIDDEN)
    return shown
