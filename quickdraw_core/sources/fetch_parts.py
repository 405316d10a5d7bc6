"""What a downloader knows of a file: on the server, and how much of it is in the folder."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from requests import Response

from quickdraw_core.credentials import without_login


@dataclass(frozen=True)
class Remote:
    """A file as the server describes it. `md5` is base64, the other marks are as sent."""

    url: str
    size_bytes: int
    etag: str | None
    modified: str | None
    md5: str | None

    @classmethod
    def of(cls, response: Response, url: str, size_bytes: int) -> "Remote":
        """Reads the headers. `x-goog-hash` is that of the whole file, also beside a range.

        Source: https://cloud.google.com/storage/docs/hashes-etags
        """
        headers = response.headers
        md5 = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
        return cls(
            url=url,
            size_bytes=size_bytes,
            etag=headers.get("ETag"),
            modified=headers.get("Last-Modified"),
            md5=md5[1] if md5 else None,
        )

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry: a strong tag, else the date (RFC 9110, section 13.1.5).

        A weak tag does not promise equal bytes: such a file is never continued.
        """
        if self.etag is None:
            return self.modified
        return None if self.etag.startswith("W/") else self.etag

    @property
    def note(self) -> dict[str, object]:
        """What two answers have in common when their bytes may be put together."""
        return {
            "url": without_login(self.url),
            "size": self.size_bytes,
            "validator": self.validator,
        }


class Part:
    """The bytes of a file that have come so far, and the note of whose they are."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f".{final.name}.part")
        self._note = final.with_name(f".{final.name}.part.json")

    def usable_bytes(self, remote: Remote) -> int:
        """How many bytes are there that `remote` continues; 0 when they are of another file."""
        try:
            noted = json.loads(self._note.read_bytes())
            size = self.path.stat().st_size
        except (FileNotFoundError, ValueError):  # none, or cut short by a kill
            return 0
        same = remote.validator is not None and noted == remote.note
        return size if same and size <= remote.size_bytes else 0

    @contextmanager
    def open(self, remote: Remote, have: int) -> Iterator[BinaryIO]:
        """A file to write to, at `have`.

        At 0, the old bytes go, then the note is made, then new bytes come: killed in between,
        nothing is there that could be taken for a part of another version.
        """
        if have == 0:
            self.drop()
            self._note.write_text(json.dumps(remote.note), encoding="utf-8")
        with self.path.open("ab") as file:
            yield file

    def drop(self) -> None:
        """Removes the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Makes the bytes durable, then gives them their name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.drop()


def whole_number(text: str | None) -> int | None:
    """The number that a header states; None if it states none."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None
