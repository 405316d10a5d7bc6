"""Where a store is: a folder of this machine, or an address in an object store.

A location is a value of configurations: it is compared, written down and sent to workers without
reading what is there. `factory.storage_of` returns the storage that reads and writes there.
"""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.storage.urls import (
    OBJECT_SCHEMES,
    check_object_url,
    normal_object_url,
    scheme_of,
)

_MANGLED = re.compile(r"(s3|gs|gcs):/[^/]", re.IGNORECASE)


class Address:
    """A folder in an object store, or a file below it.

    url: `s3://bucket/folder`, percent-encoded, without a slash at its end; query: the options
    behind its question mark. Not a `Path`, which would make one slash of two. Not a dataclass,
    which pydantic would dump as a dict.
    """

    __slots__ = ("query", "url")

    def __init__(self, url: str, query: str = "") -> None:
        self.url, self.query = url, query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __str__(self) -> str:
        return f"{self.url}?{self.query}" if self.query else self.url

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.url}/{name}", self.query)

    def absolute(self) -> "Address":
        """Itself: an address means the same wherever it is read."""
        return self


def location_of(value: Any) -> "Path | Address":
    """The location that a text, a path or a location names.

    Raises `ConfigError` for an address that is not of an object store, or that holds a key.
    """
    if isinstance(value, Address):
        return value
    if not isinstance(value, str | Path):
        raise ValueError("must be a folder or an address such as s3://bucket/folder")
    text = str(value)
    if _MANGLED.match(text):
        raise ConfigError(
            f"the store {text} is an address of which a path was made; give it as text, with two "
            "slashes"
        )
    scheme = scheme_of(text)
    if not scheme:
        return Path(value)
    if scheme not in OBJECT_SCHEMES:
        raise ConfigError(
            f"a store cannot be at {scheme}://…; give a folder, or an address that begins with "
            "s3:// or gs://"
        )
    try:
        check_object_url(text)
    except InputError as error:
        raise ConfigError(f"the store's address: {error}") from error
    url, _, query = normal_object_url(text).partition("?")
    return Address(url.rstrip("/"), query)


Location = Annotated[
    Path | Address,
    PlainValidator(location_of),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""A field of a configuration, and what functions take: a `Path` or an `Address`."""
