"""Files in an object store, s3:// and gs://, through pyarrow's own clients.

Credentials come from where the stores' own tools look for them: the environment, then the files
that those tools write. Options stand in the address, as pyarrow names them:
`s3://bucket/raw?endpoint_override=localhost:9000&scheme=http`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from quickdraw_core.errors import InputError, nearest
from quickdraw_core.sources.stored import (
    EDGE_BYTES,
    Listed,
    Look,
    StoredFile,
    address_of,
    tail_start,
)

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileInfo, FileSystem

REFUSED = "access is refused"
OBJECT_SCHEMES = ("s3", "gs", "gcs")
S3_OPTIONS = ("anonymous", "endpoint_override", "region", "scheme", "tls_ca_file_path")
GCS_OPTIONS = ("endpoint_override", "retry_limit_seconds", "scheme")

_S3_TIMEOUTS = {"connect_timeout": 4, "request_timeout": 8}  # seconds; three tries each
_GCS_RETRY_SECONDS = 10
_PIECE_BYTES = 64 << 20
_S3_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket add "
    "?anonymous=true to the address"
)
_GCS_CREDENTIALS = (
    "let GOOGLE_APPLICATION_CREDENTIALS name a file of credentials; for a public bucket write "
    "gs://anonymous@bucket"
)


class Reason(NamedTuple):
    """Why a call to an object store failed. passing: a later try may do."""

    words: str
    passing: bool = False


_REASONS = (
    (r"NO_SUCH_BUCKET|Bucket .* not found", Reason("there is no such bucket")),
    (r"OAuth2 access token", Reason(f"no credentials were found; {_GCS_CREDENTIALS}")),
    (
        r"ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH"
        r"|InvalidAccessKeyId|EXPIRED_TOKEN|ExpiredToken",
        Reason(f"{REFUSED}; {_S3_CREDENTIALS}"),
    ),
    (r"PERMISSION_DENIED|UNAUTHENTICATED", Reason(f"{REFUSED}; {_GCS_CREDENTIALS}")),
    (
        r"(?i)resolve host",
        Reason("the host name of the store is not known; check the network", passing=True),
    ),
    (
        r"(?i)connect to (server|host)|Failed to connect|NETWORK_CONNECTION|UNAVAILABLE|timeout"
        r"|timed out|DEADLINE_EXCEEDED",
        Reason("the store does not answer; check its address and the network", passing=True),
    ),
    (
        r"SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|HTTP status (5\d\d|429)",
        Reason("the store is overloaded or out of order; try again later", passing=True),
    ),
    (r"NOT_FOUND|No such file|does not exist", Reason("it is not there; correct the address")),
)


def reason_of(error: Exception) -> Reason:
    """What an error of the client means; its own words where that is not known."""
    text = " ".join(str(error).split())
    return next((why for sign, why in _REASONS if re.search(sign, text)), Reason(text))


def look_object(url: str) -> Look:
    """Looks at an object. Raises `InputError` where it is not there or cannot be reached."""
    with _plain_words(url):
        store, path = open_object_store(url)
        with store.open_input_file(path) as file:
            info = store.get_file_info(path)
            metadata = file.metadata() or {}
            start = tail_start(info.size)
            head = file.read_at(EDGE_BYTES, 0)
            tail = file.read_at(EDGE_BYTES, start) if start < info.size else b""
        tag = metadata.get(b"ETag", b"").decode(errors="replace")
    return Look(info.size, info.mtime_ns or 0, tag, True, bytes(head), bytes(tail))


def list_objects(url: str, recursive: bool) -> list[Listed]:
    """The files inside a folder, directly or also in the folders below it, in no set order.

    Raises `InputError` where there is no such folder.
    """
    from pyarrow.fs import FileSelector, FileType

    with _plain_words(url):
        store, folder = open_object_store(url)
        found: list[FileInfo] = store.get_file_info(FileSelector(folder, recursive=recursive))
    paths = [info.path for info in found if info.type == FileType.File]
    return [Listed(_location(url, path), path[len(folder) :].lstrip("/")) for path in paths]


class ObjectFile(StoredFile):
    """An object as it is stored. Each read is one request: buffer small ones."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._file: NativeFile | None = None
        with _plain_words(url):
            store, path = open_object_store(url)
            self._file = store.open_input_file(path)
            self._size_bytes: int = self._file.size()

    def close(self) -> None:
        """Closes the object."""
        if self._file is not None and not self.closed:
            self._file.close()
        super().close()

    def _size(self) -> int:
        return self._size_bytes

    def _fill(self, view: memoryview) -> int:
        assert self._file is not None
        wanted = max(0, min(len(view), self._size_bytes - self._position))
        for start in range(0, wanted, _PIECE_BYTES):
            piece = view[start : min(start + _PIECE_BYTES, wanted)]
            # Not seek and read: the client of gs:// would hold all other threads meanwhile.
            with _plain_words(self._url):
                data = self._file.read_at(len(piece), self._position + start)
            if len(data) != len(piece):
                raise InputError(
                    f"{address_of(self._url)} became shorter while it was read; read it again "
                    "once it is complete"
                )
            piece[:] = data
        return wanted


def _split(url: str) -> SplitResult:
    return urlsplit(url, allow_fragments=False)


def _location(folder_url: str, path: str) -> str:
    """The URL of a path (`bucket/key`) in the store of `folder_url`."""
    parts = _split(folder_url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{quote(path.partition('/')[2])}{query}"


def normal_location(url: str) -> str:
    """The one way to write an object's URL: percent-encoded as a listing has it."""
    parts = _split(url)
    return _location(url, f"{parts.netloc}/{unquote(parts.path).strip('/')}")


def check_object_url(url: str) -> None:
    """Raises `InputError` where an address names no bucket, has an unknown option or a key."""
    parts = _split(url)
    user, _, bucket = parts.netloc.rpartition("@")
    if user and (parts.scheme, user) not in (("gs", "anonymous"), ("gcs", "anonymous")):
        raise InputError(
            f"{parts.scheme}://…@{bucket} holds a key in the address, which would get into logs; "
            + (_S3_CREDENTIALS if parts.scheme == "s3" else _GCS_CREDENTIALS)
        )
    if not bucket:
        raise InputError(
            f"{address_of(url)} names no bucket; write {parts.scheme}://bucket/folder"
        )
    _options(parts.query, S3_OPTIONS if parts.scheme == "s3" else GCS_OPTIONS)


def open_object_store(url: str) -> "tuple[FileSystem, str]":
    """The store that a URL names, and the path in it: `bucket/key`.

    Raises `InputError` for a URL that is none, and what the client raises.
    """
    check_object_url(url)
    parts = _split(url)
    user, _, bucket = parts.netloc.rpartition("@")
    path = f"{bucket}/{unquote(parts.path).strip('/')}".rstrip("/")
    if parts.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return _s3(bucket, parts.query, endpoint), path
    return _gcs(bool(user), parts.query), path


@lru_cache(maxsize=16)
def _s3(bucket: str, query: str, endpoint: str | None) -> "FileSystem":
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    options = _options(query, S3_OPTIONS)
    if endpoint:  # pyarrow's client does not look for it by itself
        options.setdefault("endpoint_override", endpoint)
    if "region" not in options and "endpoint_override" not in options:
        options["region"] = resolve_s3_region(bucket)
    options["anonymous"] = options.get("anonymous", "false").lower() in ("true", "1", "yes")
    retry = AwsStandardS3RetryStrategy(max_attempts=3)
    # Delayed: a small object is one put, and not an upload in parts of one part.
    return S3FileSystem(**options, **_S3_TIMEOUTS, retry_strategy=retry, allow_delayed_open=True)


@lru_cache(maxsize=16)
def _gcs(anonymous: bool, query: str) -> "FileSystem":
    from pyarrow.fs import GcsFileSystem

    options = _options(query, GCS_OPTIONS)
    seconds = options.pop("retry_limit_seconds", str(_GCS_RETRY_SECONDS))
    try:
        limit = timedelta(seconds=float(seconds))
    except ValueError:
        raise InputError(f"retry_limit_seconds must be a number, found {seconds}") from None
    return GcsFileSystem(anonymous=anonymous, retry_time_limit=limit, **options)


def _options(query: str, known: tuple[str, ...]) -> dict[str, Any]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in known:
            raise InputError(f"no option {name!r} in an address: {nearest(name, known)}")
    return options


@contextmanager
def _plain_words(url: str) -> Iterator[None]:
    """Turns the client's errors into an `InputError` that says what to do."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        why = reason_of(error).words
        raise InputError(f"cannot read {address_of(url)}: {why}") from error
