"""The body of a request → bytes, within limits of size and time."""

import asyncio

from fastapi import Request

from quickdraw_core.serving.web.answers import Refused


def require_type(request: Request, expected: str) -> None:
    """Raises `Refused` (415) unless the request says that its body has this media type."""
    found = request.headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != expected:
        given = f"found {found!r}" if found else "there is none"
        raise Refused(415, f"the header Content-Type is not {expected}, {given}", closes=True)


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """The body. Raises `Refused`: 413 if it is longer than `most_bytes`, whatever its header
    says, 408 if it does not come within so many seconds.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise too_long(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise too_long(most_bytes)
    except TimeoutError as error:
        raise Refused(
            408,
            f"the request's body did not come within {seconds:g} seconds; send it faster",
            closes=True,
        ) from error
    return bytes(body)


def too_long(most_bytes: int) -> Refused:
    """413."""
    return Refused(
        413, f"the body is longer than {most_bytes:,} bytes; send a smaller one", closes=True
    )
