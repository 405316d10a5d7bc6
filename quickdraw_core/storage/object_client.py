"""Connections to object stores, s3:// and gs://, through pyarrow's own clients.

Credentials come from where the stores' own tools look for them: the environment, then the files
that those tools write.
"""

import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from quickdraw_core.errors import InputError
from quickdraw_core.storage.urls import (
    GCS_CREDENTIALS,
    GCS_OPTIONS,
    S3_CREDENTIALS,
    S3_OPTIONS,
    check_object_url,
    object_options,
    split_object_url,
)

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

REFUSED = "access is refused"

_S3_TIMEOUTS = {"connect_timeout": 4, "request_timeout": 8}  # seconds; three tries each
_GCS_RETRY_SECONDS = 10


class Reason(NamedTuple):
    """Why a call to an object store failed. passing: a later try may succeed."""

    words: str
    passing: bool = False


_REASONS = (
    (r"NO_SUCH_BUCKET|Bucket .* not found", Reason("there is no such bucket")),
    (r"OAuth2 access token", Reason(f"no credentials were found; {GCS_CREDENTIALS}")),
    (
        r"ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH"
        r"|InvalidAccessKeyId|EXPIRED_TOKEN|ExpiredToken",
        Reason(f"{REFUSED}; {S3_CREDENTIALS}"),
    ),
    (r"PERMISSION_DENIED|UNAUTHENTICATED", Reason(f"{REFUSED}; {GCS_CREDENTIALS}")),
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
    """What an error of the client means; its own words if that is not known."""
    text = " ".join(str(error).split())
    return next((why for sign, why in _REASONS if re.search(sign, text)), Reason(text))


def open_object_store(url: str) -> "tuple[FileSystem, str]":
    """The store that a URL names, and the path in it: `bucket/key`.

    Raises `InputError` for a malformed URL, and what the client raises.
    """
    check_object_url(url)
    parts = split_object_url(url)
    user, _, bucket = parts.netloc.rpartition("@")
    path = f"{bucket}/{unquote(parts.path).strip('/')}".rstrip("/")
    if parts.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return _s3(bucket, parts.query, endpoint), path
    return _gcs(bool(user), parts.query), path


@lru_cache(maxsize=16)
def _s3(bucket: str, query: str, endpoint: str | None) -> "FileSystem":
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    options = object_options(query, S3_OPTIONS)
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

    options = object_options(query, GCS_OPTIONS)
    seconds = options.pop("retry_limit_seconds", str(_GCS_RETRY_SECONDS))
    try:
        limit = timedelta(seconds=float(seconds))
    except ValueError:
        raise InputError(f"retry_limit_seconds must be a number, found {seconds}") from None
    return GcsFileSystem(anonymous=anonymous, retry_time_limit=limit, **options)
