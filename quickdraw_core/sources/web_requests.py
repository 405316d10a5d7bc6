"""Asking web servers, and asking again where that may help."""

import re
from collections.abc import Callable
from functools import lru_cache
from time import monotonic, sleep
from typing import TypeVar

from requests import RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from quickdraw_core.errors import InputError
from quickdraw_core.storage.urls import address_of

T = TypeVar("T")

_TRIES = 4
_PAUSE_SECONDS = 0.25
_MAX_SECONDS = 20.0
"""No further try begins when so long nothing came."""
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


class PassingError(Exception):
    """Something that may be over with the next try."""


PASSING = (PassingError, RequestException, HTTPError)
"""What a further try may help against."""


class Patience:
    """Counts the tries in a row that brought nothing, and pauses between them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.renew()

    def renew(self) -> None:
        """Something came: counts from the beginning."""
        self._failures, self._since = 0, monotonic()

    def lose(self, error: Exception) -> None:
        """Pauses before the next try. Raises `InputError` when there is to be none."""
        self._failures += 1
        if self._failures >= _TRIES or monotonic() - self._since > _MAX_SECONDS:
            raise InputError(
                f"cannot read {address_of(self._url)}: {_reason(error)}, after "
                f"{self._failures} tries; check the address and the network, then try again"
            ) from None  # whose text holds the query
        sleep(_PAUSE_SECONDS * 2 ** (self._failures - 1))


def persistently(url: str, action: Callable[[], T]) -> T:
    """What `action` gives, at the first try that succeeds. Raises `InputError` if none does."""
    patience = Patience(url)
    while True:
        try:
            return action()
        except PASSING as error:
            patience.lose(error)


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
    if status in _PASSING_STATUS:
        raise PassingError(f"it answers {status} {response.reason}")
    why = _STATUS.get(status, f"it answers {status} {response.reason}; check the address")
    raise InputError(f"cannot read {address_of(url)}: {why}")


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
