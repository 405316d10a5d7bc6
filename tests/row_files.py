"""Files of rows in each form, and a source that counts what is read of it."""

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from writers import Row, binary_record, csv_line, ndjson_line

from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.formats.rows import Rejected
from quickdraw_core.reading.blocks import BLOCK_BYTES, Block, go_to, window_blocks
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.reading.windows import Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.find import find_sources
from quickdraw_core.store.schema import SCHEMA, table_of

HEADER = (",".join(TRAIN_COLUMNS) + "\n").encode()

FORMS = ("csv", "csv.gz", "ndjson", "ndjson.gz", "bin")
"""Endings of the forms that `write_form` writes."""


def write_form(folder: Path, form: str, rows: Sequence[Row], word: str = "cat") -> Path:
    """Writes rows of one word as `<word>.<form>`."""
    if form.startswith("csv"):
        data = HEADER + b"".join(csv_line(row) for row in rows)
    elif form.startswith("ndjson"):
        data = b"".join(ndjson_line(row) for row in rows)
    else:
        data = b"".join(binary_record(row) for row in rows)
    path = folder / f"{word}.{form}"
    path.write_bytes(gzip.compress(data, 1) if form.endswith(".gz") else data)
    return path


def short_rows(
    count: int, line_end: bytes = b"\n", first_key: int = 10_000_000, word: bytes = b"cat"
) -> list[bytes]:
    """`count` lines of a CSV after `HEADER`, all as long; row i has the key_id `first_key + i`."""
    tail = b",True,2017-03-08 21:12:07.266040," + word + line_end
    return [b'US,"[[[1],[2]]]",%d' % (first_key + row) + tail for row in range(count)]


def lengthened(lines: Sequence[bytes], length: int) -> list[bytes]:
    """The lines of `short_rows` with as many points as make them about `length` bytes long."""
    more = max(0, length - len(lines[0])) // 4
    drawing = b"[[[1" + b",1" * more + b"],[2" + b",2" * more + b"]]]"
    return [line.replace(b"[[[1],[2]]]", drawing) for line in lines]


def write_lines(path: Path, lines: Sequence[bytes]) -> Path:
    """Writes a CSV of these lines."""
    path.write_bytes(HEADER + b"".join(lines))
    return path


def source_of(path: Path) -> SourceFile:
    """The source that this one file is."""
    (source,) = find_sources([str(path)], None)
    return source


def blocks_of(source: Any, window: Window) -> Iterator[Block]:
    """The rows of a window, reached through the row index."""
    index = index_rows(source)
    offset, row = index.start_of(window.skiprows)
    size_bytes = index.end_of(window.skiprows + window.nrows) - offset
    reader = reader_for(source.format, source.word)
    with source.open() as file:
        go_to(file, offset, source.sequential)
        yield from window_blocks(file, reader, row, window, size_bytes or BLOCK_BYTES)


def read_window(source: Any, window: Window) -> tuple[pa.Table, list[Rejected]]:
    """The rows of a window in the store's schema, and those refused."""
    reader = reader_for(source.format, source.word)
    tables, rejected = [SCHEMA.empty_table()], []
    for block in blocks_of(source, window):
        rows, refused = reader.read(block.data, block.row + reader.first_line)
        tables.append(table_of(rows))
        rejected += refused
    return pa.concat_tables(tables), rejected


class _CountedFile(io.RawIOBase):
    def __init__(self, file: Any, source: "CountedSource") -> None:
        self._file, self._source = file, source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer))
        self._source.asked.append(len(buffer))
        self._source.bytes_read += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass
class CountedSource:
    """A source that counts how often it is opened, and the bytes that are read of it.

    asked: how many bytes each read asked for.
    """

    source: SourceFile
    opened: int = 0
    bytes_read: int = 0
    asked: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def open(self, cut_short: bool = False, once: bool = False) -> _CountedFile:
        self.opened += 1
        return _CountedFile(self.source.open(cut_short, once), self)
