"""URLs of files: their parts, and which ones name an object in an object store.

Options of an object store stand in the URL, as pyarrow names them:
`s3://bucket/raw?endpoint_override=localhost:9000&scheme=http`.
"""

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from quickdraw_core.errors import InputError, nearest

OBJECT_SCHEMES = ("s3", "gs", "gcs")
S3_OPTIONS = ("anonymous", "endpoint_override", "region", "scheme", "tls_ca_file_path")
GCS_OPTIONS = ("endpoint_override", "retry_limit_seconds", "scheme")

S3_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket add "
    "?anonymous=true to the address"
)
GCS_CREDENTIALS = (
    "let GOOGLE_APPLICATION_CREDENTIALS name a file of credentials; for a public bucket write "
    "gs://anonymous@bucket"
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(location: str) -> str:
    """`s3` of `s3://…`, in lower case; empty for a local path."""
    match = _SCHEME.match(location)
    return match[1].lower() if match else ""


def address_of(location: str) -> str:
    """The location without a query, which may hold a signature: for messages and records."""
    return location.partition("?")[0] if scheme_of(location) else location


def name_of(location: str) -> str:
    """The last part of a location, decoded if it is a URL: `cat.bin` of `…/full%2Fcat.bin`."""
    if scheme_of(location):
        return unquote(urlsplit(location).path).rsplit("/", 1)[-1]
    return location.rsplit("/", 1)[-1]


def split_object_url(url: str) -> SplitResult:
    """The parts of an object's URL, in which `#` is a character like others."""
    return urlsplit(url, allow_fragments=False)


def object_url(folder_url: str, path: str) -> str:
    """The URL of a path (`bucket/key`) in the object store of `folder_url`."""
    parts = split_object_url(folder_url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{quote(path.partition('/')[2])}{query}"


def normal_object_url(url: str) -> str:
    """The one way to write an object's URL: percent-encoded as a listing has it."""
    parts = split_object_url(url)
    return object_url(url, f"{parts.netloc}/{unquote(parts.path).strip('/')}")


def check_object_url(url: str) -> None:
    """Raises `InputError` if a URL names no bucket, has an unknown option or holds a key."""
    parts = split_object_url(url)
    user, _, bucket = parts.netloc.rpartition("@")
    if user and (parts.scheme, user) not in (("gs", "anonymous"), ("gcs", "anonymous")):
        raise InputError(
            f"{parts.scheme}://…@{bucket} holds a key in the address, which would get into logs; "
            + (S3_CREDENTIALS if parts.scheme == "s3" else GCS_CREDENTIALS)
        )
    if not bucket:
        raise InputError(
            f"{address_of(url)} names no bucket; write {parts.scheme}://bucket/folder"
        )
    object_options(parts.query, S3_OPTIONS if parts.scheme == "s3" else GCS_OPTIONS)


def object_options(query: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The options of a URL's query. Raises `InputError` for one that is not known."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in known:
            raise InputError(f"no option {name!r} in an address: {nearest(name, known)}")
    return options
