"""Requests to web servers, repeated if that may help."""

import re
from collections.abc import Callable
from functools import lru_cache
from time import sleep
from typing import TypeVar

from requests import RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from quickdraw_core.errors import InputError
from quickdraw_core.storage.urls import address_of
from quickdraw_core.system.retries import Attempts, PassingError

T = TypeVar("T")

_RETRIES = 3
_PAUSE_SECONDS = 0.25
_MAX_SECONDS = 20.0
"""No further attempt begins when so long nothing came."""
_TIMEOUT_SECONDS = (5.0, 12.0)
"""For a connection, and for a next byte."""
_PASSING_STATUS = (408, 429, 500, 502, 503, 504)
_REASONS = (
    ("NameResolution", "its host name is not known"),
    ("Connection refused", "nothing listens there"),
    ("timed out", "it does not answer"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("IncompleteRead", "the connection was cut"),
    ("Connection aborted", "the connection was cut"),
    ("Connection broken", "the connection was cut"),
    ("Connection reset", "the connection was cut"),
)
_STATUS = {
    401: "it asks for a password; serve the files without one, or download them first",
    403: "access is refused; is it public?",
    404: "it is not there; correct the address",
    410: "it is not there any more; correct the address",
}

PASSING = (PassingError, RequestException, HTTPError)
"""What a further attempt may help against."""


def persistently(url: str, action: Callable[[], T]) -> T:
    """What `action` gives at the first attempt that succeeds. Raises `InputError` if none does."""
    attempts = Attempts(_RETRIES, _PAUSE_SECONDS, _MAX_SECONDS)
    while True:
        try:
            return action()
        except PASSING as error:
            pause = attempts.failed(error)
            if pause is None:
                raise InputError(
                    f"cannot read {address_of(url)}: {_reason(error)}, after "
                    f"{attempts.failures} tries; check the address and the network, then try again"
                ) from None  # whose text holds the query
        sleep(pause)


def get(url: str, span: tuple[int, int] | None = None) -> Response:
    """Asks for a file, or for its bytes [span[0], span[1]); the body is not read yet.

    The status is 200, 206 or 416. Raises `InputError` for what will not change soon.
    """
    headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    response = _session().get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    status = response.status_code
    if status in (200, 206) or (status == 416 and span is not None):
        return response
    response.close()
    answer = f"it answers {status} {response.reason}"
    if status in _PASSING_STATUS:
        raise PassingError(answer, retry_after_seconds(response))
    why = _STATUS.get(status, f"{answer}; check the address")
    raise InputError(f"cannot read {address_of(url)}: {why}")


def retry_after_seconds(response: Response) -> float:
    """How long a server asks to be left alone: seconds or a date (RFC 9110, section 10.2.3)."""
    asked = response.headers.get("Retry-After", "0")
    try:
        # -0000: UTC, of an unknown place (RFC 5322, section 3.3); urllib3 takes it for local time.
        return Retry().parse_retry_after(asked.replace("-0000", "+0000"))
    except (InvalidHeader, ValueError, OverflowError):
        return 0


@lru_cache(maxsize=1)
def _session() -> Session:
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=32))
    # Bytes as they are stored: a range of what a server packs for the way would be useless.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _reason(error: Exception) -> str:
    text = f"{error!r} {error}"
    unsigned = re.sub(r"\?\S+", "", str(error))  # an address in it may hold a signature
    return next((words for sign, words in _REASONS if sign in text), unsigned)
