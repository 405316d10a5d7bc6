"""One file of a download: ask, receive, check, rename."""

import base64
import hashlib
import os
import re
from functools import partial

from requests import Response, Session
from urllib3.exceptions import HTTPError

from quickdraw_core.sources.fetch_call import (
    Call,
    DistrustedError,
    RefusedError,
    reason_of,
)
from quickdraw_core.sources.fetch_parts import Part, Remote, whole_number
from quickdraw_core.system.retries import PassingError

_CHUNK_BYTES = 1 << 16


def download(run: Call, session: Session, word: str, part: Part, remote: Remote) -> None:
    """Brings one file to its final name, in as many attempts as it takes."""
    known = [remote]

    def attempt() -> None:
        # A failure may mean that the file changed meanwhile: a further attempt asks again.
        current = known.pop() if known else ask(run, session, word)
        try:
            _check(part, _receive(run, session, word, part, current))
        except DistrustedError:
            part.drop()
            raise

    run.persist(word, attempt)
    part.finish()


def ask(run: Call, session: Session, word: str) -> Remote:
    """What the server says of a file: by HEAD, or by a GET if HEAD states no size."""
    url = run.config.url_of(word)
    for method, also in (("HEAD", (405, 501)), ("GET", ())):
        with run.answer(session, method, url, {}, also) as response:
            size = whole_number(response.headers.get("Content-Length"))
            if response.status_code == 200 and size is not None:
                return Remote.of(response, url, size)
    raise RefusedError(
        "the server states no size, so that a cut file could not be told from a whole one"
    )


def _receive(run: Call, session: Session, word: str, part: Part, remote: Remote) -> Remote:
    """One GET of what is missing, into `part`. Returns the version that the bytes belong to."""
    have = part.usable_bytes(remote)
    if have and have == remote.size_bytes:
        return remote
    headers = {"Range": f"bytes={have}-", "If-Range": remote.validator or ""} if have else {}
    with run.answer(session, "GET", remote.url, headers, also=(206, 416)) as response:
        if response.status_code == 200:
            have = 0  # the server knows no ranges, or has another file by now
            remote = _answered_in_full(response, remote)
        else:
            _require_continuation(response, remote, have)
        try:
            with part.open(remote, have) as file:
                # Each piece as it comes: `iter_content` waits until a chunk is full, and drops
                # what it has of it when the connection breaks.
                while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                    run.require_going()
                    have += len(chunk)
                    if have > remote.size_bytes:
                        raise DistrustedError(
                            f"got at least {have:,} bytes, expected {remote.size_bytes:,}"
                        )
                    file.write(chunk)
                    file.flush()
                    run.reach(word, have, received_bytes=len(chunk))
        except HTTPError as error:
            run.require_going()
            raise PassingError(
                f"got {have:,} bytes, expected {remote.size_bytes:,}: {reason_of(error)}"
            ) from error
    return remote


def _answered_in_full(response: Response, remote: Remote) -> Remote:
    """The version that a 200 carries. Its size has to be the one that was stated before."""
    size = whole_number(response.headers.get("Content-Length"))
    if size is not None and size != remote.size_bytes:
        raise DistrustedError(
            f"got an answer of {size:,} bytes, expected {remote.size_bytes:,} as stated before"
        )
    return Remote.of(response, remote.url, remote.size_bytes)


def _require_continuation(response: Response, remote: Remote, have: int) -> None:
    """Refuses to append anything but the bytes from `have` on, of the same version.

    Some servers send a range whatever `If-Range` says, so their marks are compared as well.
    """
    stated = response.headers.get("Content-Range", "")
    expected = rf"bytes {have}-\d+/{remote.size_bytes}"
    if response.status_code != 206 or not have or not re.fullmatch(expected, stated):
        raise DistrustedError(
            f"got {have:,} bytes, expected {remote.size_bytes:,}, but asked for the rest the "
            f"server answers {response.status_code}, range {stated or 'unsaid'!r}"
        )
    now = Remote.of(response, remote.url, remote.size_bytes)
    if now.etag not in (None, remote.etag) or now.modified not in (None, remote.modified):
        raise DistrustedError(f"got {have:,} bytes, then the file changed on the server")


def _check(part: Part, remote: Remote) -> None:
    """Refuses a part that is not the whole file, or not the server's.

    A `.ndjson` that stops within a line was cut before the server measured it: the one lie
    about sizes that no header gives away.
    """
    size = part.path.stat().st_size
    if size != remote.size_bytes:
        raise PassingError(f"got {size:,} bytes, expected {remote.size_bytes:,}")
    with part.path.open("rb") as file:
        if remote.md5 is not None:
            digest = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
            md5 = base64.b64encode(digest.digest()).decode()
            if md5 != remote.md5:
                raise DistrustedError(
                    f"got {size:,} bytes as expected, but of md5 {md5}, expected {remote.md5}"
                )
        if size and part.final.suffix == ".ndjson":
            file.seek(-1, os.SEEK_END)
            if file.read(1) not in (b"\n", b"}"):
                raise DistrustedError(
                    f"got {size:,} bytes as stated, expected more: they end within a drawing"
                )
