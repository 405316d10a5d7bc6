"""Which of Google's public files to download.

Layout of the bucket: `<base>/simplified/<word>.ndjson`, `<base>/raw/<word>.ndjson`,
`<base>/binary/<word>.bin`, words spelled with spaces
(https://github.com/googlecreativelab/quickdraw-dataset).
"""

from pathlib import Path
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from quickdraw_core.config import Config
from quickdraw_core.credentials import whole_address
from quickdraw_core.errors import InputError, nearest
from quickdraw_core.labels import challenge_words, spaced

BUCKET = "https://storage.googleapis.com/quickdraw_dataset/full"
FURTHER_WORDS = ("aircraft carrier", "knife", "lighter", "rifle", "syringe")
"""Words of Google's set that the challenge left out: 345 in all."""

FILE_FORMATS = {
    "simplified": ".ndjson",  # scaled to 0..255 and simplified, a drawing a line
    "raw": ".ndjson",  # as drawn, with times, about ten times as large
    "binary": ".bin",  # the simplified drawings, packed
}
"""Name of a format, also its folder in the bucket → ending of its files."""


class FetchConfig(Config):
    """Which files to download, from where, to where, and how patiently."""

    folder: Path = Field(description="folder to put <word>.ndjson or <word>.bin into")
    classes: tuple[str, ...] | None = Field(
        None,
        description="words to fetch, with spaces or underscores; default: the challenge's 340",
    )
    format: str = Field("simplified", description="simplified, raw or binary")
    base_url: str = Field(BUCKET, description="address above simplified/, raw/ and binary/")
    parallel: int = Field(4, ge=1, le=32, description="connections at a time")
    retries: int = Field(
        6,
        ge=0,
        description="attempts in a row that may bring nothing new, after a first one",
    )
    timeout_seconds: float = Field(
        30, gt=0, description="seconds of silence after which an attempt has failed"
    )
    backoff_seconds: float = Field(
        0.5, ge=0, description="pause before the first further attempt; it doubles with each one"
    )

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, value: str) -> str:
        if value not in FILE_FORMATS:
            raise ValueError(nearest(value, FILE_FORMATS))
        return value

    @field_validator("base_url")
    @classmethod
    def _base_url_has_a_form(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://host/folder")
        if parts.query or parts.fragment:
            raise ValueError("must end before any ? or #, file names are put behind it")
        return value.rstrip("/")

    def name_of(self, word: str) -> str:
        """Name of a word's file, on the server as in the folder."""
        return word + FILE_FORMATS[self.format]

    def url_of(self, word: str) -> str:
        """Address of a word's file."""
        return f"{whole_address(self.base_url)}/{self.format}/{quote(self.name_of(word))}"


def chosen_words(config: FetchConfig) -> list[str]:
    """The words to fetch, sorted, with spaces. Raises `InputError` for one that is unknown."""
    challenge = challenge_words()
    if config.classes is None:
        return challenge
    known = {*challenge, *FURTHER_WORDS}
    words = sorted({spaced(word.strip()) for word in config.classes})
    if not words:
        raise InputError("no class to fetch: the list is empty; give words, or leave it out")
    for word in words:
        if word not in known:
            raise InputError(f"Quick, Draw! has no class {word!r}: {nearest(word, known)}")
    return words
