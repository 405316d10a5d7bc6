"""The body of a request → bytes, within limits of size and time."""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from quickdraw_core.serving.web.answers import Refused

READING_BYTES = 256 << 20
"""Of all bodies that are being read."""
_BUSY = "too much is being sent to the server at once; try again in a second"


def require_type(request: Request, expected: str) -> None:
    """Raises `Refused` (415) unless the request says that its body has this media type."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != expected:
        found = f"found {given!r}" if given else "there is none"
        raise Refused(415, f"the header Content-Type is not {expected}, {found}", closes=True)


class Reader:
    """Reads the bodies of one server's requests, so many bytes at once.

    seconds: how long a body may take to come.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._bytes = 0

    async def read(self, request: Request, most_bytes: int) -> bytes:
        """The body. It counts as being read until `release`.

        Raises `Refused`: 413 if it is longer than `most_bytes`, whatever its header says, 408 if
        it does not come in time, 503 if too much is being read, 499 if the client is gone.
        """
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most_bytes:
            raise _too_long(most_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    if self._bytes + len(chunk) > READING_BYTES:
                        raise Refused(503, _BUSY, closes=True, retry_after=1)
                    self._bytes += len(chunk)
                    body += chunk
                    if len(body) > most_bytes:
                        raise _too_long(most_bytes)
        except BaseException as error:
            self._bytes -= len(body)
            if isinstance(error, TimeoutError):
                raise _too_slow(self._seconds) from error
            if isinstance(error, ClientDisconnect):
                raise Refused(499, "the client is gone", closes=True) from error
            raise
        return bytes(body)

    def release(self, body: bytes) -> None:
        """Says that a body is no longer needed."""
        self._bytes -= len(body)


def _too_slow(seconds: float) -> Refused:
    return Refused(
        408,
        f"the request's body did not come within {seconds:g} seconds; send it faster",
        closes=True,
    )


def _too_long(most_bytes: int) -> Refused:
    return Refused(
        413, f"the body is longer than {most_bytes:,} bytes; send a smaller one", closes=True
    )
