"""Files → drawings to guess: `drawings_of`. Pictures, SVG, and rows of ndjson or CSV.

What a file is shows in its content, not in its name, so that standard input works too. Rows are
read more freely than an ingest reads them: only the drawing must be there, simplified or raw.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import InputError, QuickdrawError, ReaderError, first_line
from quickdraw_core.formats.rows import RowError
from quickdraw_core.formats.svg import is_svg
from quickdraw_core.system.files import cause_of

if TYPE_CHECKING:
    from quickdraw_core.formats.pictures.strokes import PictureStrokes

STDIN = "-"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".ndjson", ".jsonl", ".csv")
"""Of the files that are taken from folders; rows also with `.gz`."""

FIGURE_ENDING = "-explained.png"
"""Of the figures that `--explain` writes, which are passed over in folders."""

ReadPicture = Callable[[bytes], "PictureStrokes"]
"""The bytes of a picture's file → its strokes."""

_HEAD_BYTES = 4096
_MAX_LINE_BYTES = 16 << 20
_FORMS = "give a PNG, JPEG, WebP, SVG, ndjson or CSV file"


@dataclass(frozen=True)
class FileDrawing:
    """A drawing of a file. line: of its row, from 1; None: it is the whole file. facts: the row's
    word and key_id, if it has them. picture: what was understood of a picture.
    """

    file: str
    drawing: DrawingBatch
    line: int | None = None
    facts: dict[str, str] = field(default_factory=dict)
    picture: "PictureStrokes | None" = None

    @property
    def name(self) -> str:
        """`cat.png`, or `cats.ndjson:17`."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class FileProblem:
    """A file, or a row of one, that gives no drawing, and why."""

    name: str
    problem: str


def files_of(names: Sequence[str]) -> list[str]:
    """All files named, those of folders included, in the order of their names.

    Raises `InputError` if a folder has none, or standard input is asked for twice.
    """
    files: list[str] = []
    for name in names:
        path = Path(name)
        if name == STDIN or not _is_folder(path):
            files.append(name)
            continue
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_known(p.name)]
        if not inside:
            raise InputError(f"the folder {name} holds no drawing; {_FORMS}")
        files += map(str, inside)
    if files.count(STDIN) > 1:
        raise InputError("standard input (-) can be read once; give it once")
    return files


def drawings_of(file: str, read_picture: ReadPicture) -> Iterator[FileDrawing | FileProblem]:
    """The drawings of a file, one by one, and what cannot be read of it. `-`: standard input.

    read_picture: `PictureProcesses.read`, or the same in this process. Raises `ReaderError`.
    """
    name = "standard input" if file == STDIN else file
    try:
        with _opened(file) as stream:
            yield from _drawings(name, stream, read_picture)
    except OSError as error:
        yield FileProblem(name, f"cannot be read: {cause_of(error)}")
    except (EOFError, zlib.error) as error:
        yield FileProblem(name, f"is cut short or damaged: {first_line(error)}; fetch it again")
    except ReaderError:
        raise  # nothing is wrong with the file, and the next one fares the same
    except QuickdrawError as error:
        yield FileProblem(name, str(error))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_known(name: str) -> bool:
    if name.startswith(".") or name.endswith(FIGURE_ENDING):
        return False
    return name.lower().removesuffix(".gz").endswith(ENDINGS)


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb")


class _After(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = io.BytesIO(head), stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _with_head(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first bytes of a stream, however it hands them out, and the stream from its start."""
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    return head, cast(BinaryIO, io.BufferedReader(_After(head, stream), 1 << 16))


def _drawings(
    name: str, stream: BinaryIO, read_picture: ReadPicture
) -> Iterator[FileDrawing | FileProblem]:
    from quickdraw_core.formats.pictures import opening
    from quickdraw_core.formats.raw_drawing import drawing_of_raw

    head, stream = _with_head(stream)
    if head.startswith(b"\x1f\x8b"):
        head, stream = _with_head(cast(BinaryIO, gzip.GzipFile(fileobj=stream)))
    if opening.is_picture(head[:12]):
        picture = read_picture(stream.read(opening.MAX_BYTES + 1))
        yield FileDrawing(name, picture.drawing, picture=picture)
    elif is_svg(head):
        from quickdraw_core.formats.svg import MAX_BYTES, strokes_of_svg

        yield FileDrawing(name, drawing_of_raw(strokes_of_svg(stream.read(MAX_BYTES + 1))))
    elif head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        yield from _rows(name, _json_rows(stream))
    elif b"drawing" in head.partition(b"\n")[0]:
        yield from _rows(name, _csv_rows(stream))
    elif not head:
        raise InputError(f"is empty; {_FORMS}")
    else:
        raise InputError(f"{opening.kind_of(head)}; {_FORMS}")


Row = tuple[int, dict[str, Any] | RowError]
"""A row's line and its fields, or why it has none."""


def _rows(name: str, rows: Iterator[Row]) -> Iterator[FileDrawing | FileProblem]:
    for line, fields in rows:
        try:
            if isinstance(fields, RowError):
                raise fields
            facts = {key: str(fields[key]) for key in ("word", "key_id") if fields.get(key)}
            yield FileDrawing(name, _drawing(fields.get("drawing")), line, facts)
        except RowError as error:
            yield FileProblem(f"{name}:{line}", f"{error}, {error.found}")


def _drawing(strokes: object) -> DrawingBatch:
    """A row's drawing: as it is if it is simplified, else simplified. Raises `RowError`."""
    from quickdraw_core.formats.strokes import pack_raw_strokes, pack_strokes

    try:
        x, y, lengths = pack_strokes(strokes)
    except RowError:
        x, y, lengths = pack_raw_strokes(_with_times(strokes))
    return DrawingBatch.from_packed([x], [y], [lengths])


def _with_times(strokes: object) -> object:
    """Raw strokes, those that have no times with zeros for them."""
    if not isinstance(strokes, list):
        return strokes
    return [
        [*stroke, [0] * len(stroke[0])]
        if isinstance(stroke, list) and len(stroke) == 2 and isinstance(stroke[0], list)
        else stroke
        for stroke in strokes
    ]


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | RowError]]:
    """All lines that are not blank, with their numbers."""
    number = 0
    while line := stream.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_MAX_LINE_BYTES)
            yield number, RowError("line is longer than 16 MiB")
        elif line.strip():
            yield number, line


def _json_rows(stream: BinaryIO) -> Iterator[Row]:
    """Objects with a "drawing", or drawings alone, one a line."""
    for number, line in _lines(stream):
        try:
            if isinstance(line, RowError):
                raise line
            value = json.loads(line.decode("utf-8-sig"))
            fields = {"drawing": value} if isinstance(value, list) else value
            if not isinstance(fields, dict):
                raise RowError("line is not a JSON object")
            yield number, fields
        except RowError as error:
            yield number, error
        except (ValueError, RecursionError) as error:
            yield number, RowError("line is not JSON", first_line(error))


def _csv_header(line: bytes) -> list[str]:
    """The names of the columns. Raises `InputError`."""
    try:
        return next(csv.reader([line.decode("utf-8-sig")], strict=True))
    except (ValueError, csv.Error, StopIteration) as error:
        raise InputError(
            f"its header is not CSV in UTF-8: {first_line(error)}; save it as UTF-8"
        ) from error


def _csv_rows(stream: BinaryIO) -> Iterator[Row]:
    """Rows below a header with the column `drawing`."""
    csv.field_size_limit(1 << 30)
    header: list[str] | None = None
    for number, line in _lines(stream):
        try:
            if isinstance(line, RowError):
                raise line
            if header is None:
                header = _csv_header(line)
                continue
            values = next(csv.reader([line.decode("utf-8-sig")], strict=True))
            fields: dict[str, Any] = dict(zip(header, values, strict=False))
            fields["drawing"] = json.loads(fields.get("drawing", ""))
            yield number, fields
        except RowError as error:
            yield number, error
        except (ValueError, RecursionError, csv.Error, StopIteration) as error:
            yield number, RowError("row is not CSV with a drawing", first_line(error))
