"""Where the rows of a file begin, so that a window costs its own rows and not those before it.

An index is found by one scan and kept in the user's cache folder until the file changes.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.formats.reader import RowReader, is_cut
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.reading.blocks import RowTooLongError, go_to, window_blocks
from quickdraw_core.reading.windows import STRIDE, Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.unpacked import broken_off, explain_cut
from quickdraw_core.system.files import cache_folder, write_atomic

INDEX_VERSION = 4

_BLOCK_BYTES = 16 << 20
_ALL_ROWS = 1 << 62


@dataclass(frozen=True)
class RowIndex:
    """offsets[k]: byte (of the decompressed file) where data row `k * STRIDE` begins, or blank
    lines before it; rows: data rows found; end: the byte after the last one; complete: the file
    holds no more; cut: in the middle of what the file ends, nothing where it is whole.
    """

    rows: int
    offsets: tuple[int, ...]
    end: int
    complete: bool = True
    cut: str = ""

    def start_of(self, row: int) -> tuple[int, int]:
        """A place to read from in order to reach `row`: (its byte, the row that begins there)."""
        block = min(row // STRIDE, len(self.offsets) - 1)
        return self.offsets[block], block * STRIDE

    def end_of(self, row: int) -> int:
        """A byte at or behind the end of row `row - 1`."""
        block = -(-row // STRIDE)
        return self.offsets[block] if block < len(self.offsets) else self.end


def index_rows(source: SourceFile, enough: int | None = None) -> RowIndex:
    """The index of a source: from the cache where it fits the file as it is, else by a scan.

    enough: rows after which the scan may stop; then the index is not complete, and not kept.
    A last row that is cut off counts as a row, and the index says so. Raises `InputError` naming
    the file.
    """
    index = cached_index(source)
    if index is None:
        index = _scan(source, enough)
        keep_index(source, index)
    return index


def require_rows(source: SourceFile, index: RowIndex) -> None:
    """Raises `InputError` if a file has no row at all."""
    if not index.rows:
        raise InputError(f"{source.address} holds no row; leave the class out")


def require_whole(source: SourceFile, index: RowIndex, advice: str = "") -> None:
    """Raises `InputError`, which ends with `advice`, where a file was cut short."""
    if index.cut:
        raise InputError(explain_cut(source.address, index.cut) + advice)


def cut_of(reader: RowReader, row: UInt8Array) -> str:
    """`RowIndex.cut` by a file's last row (uint8 [B]), which lacks its end."""
    return "a row" if is_cut(reader, row) else ""


def cached_index(source: SourceFile) -> RowIndex | None:
    """The index in the cache, where there is one and it fits the file as it is."""
    facts = _facts(source)
    try:
        found = json.loads(_path(source).read_text(encoding="utf-8"))
        if {name: found[name] for name in facts} != facts:
            return None
        index = RowIndex(
            int(found["rows"]),
            tuple(map(int, found["offsets"])),
            int(found["end"]),
            cut=str(found["cut"]),
        )
        return index if len(index.offsets) == -(-index.rows // STRIDE) else None
    except (ConfigError, OSError, ValueError, KeyError, TypeError):
        return None


def keep_index(source: SourceFile, index: RowIndex) -> None:
    """Keeps a complete index for later runs. Without a place for it, each run scans anew."""
    # It might be that of another content, which the stamp does not stand for.
    if index.complete and source.current_stamp() == source.stamp:
        with suppress(ConfigError, OSError):
            write_atomic(_path(source), json.dumps(_facts(source) | asdict(index)), sync=False)


def _scan(source: SourceFile, enough: int | None) -> RowIndex:
    reader = reader_for(source.shape, source.word)
    offsets: list[int] = []
    rows, position, cut = 0, source.shape.data_offset, ""
    try:
        with source.open(cut_short=True) as file:
            go_to(file, position, source.sequential)
            for block in window_blocks(file, reader, 0, Window(0, _ALL_ROWS), _BLOCK_BYTES):
                start, row = 0, block.row
                while row < block.row + block.rows:
                    if row % STRIDE == 0:
                        offsets.append(position + start)
                    start, passed = reader.skip(block.data, start, STRIDE - row % STRIDE)
                    row += passed
                    if not passed:  # the last row of a file, without its end
                        cut = cut_of(reader, block.data[start:])
                        break
                position += len(block.data)
                rows += block.rows
                if enough is not None and rows >= enough:
                    return RowIndex(rows, tuple(offsets), position, complete=False)
            cut = broken_off(file) or cut
    except RowTooLongError as error:
        raise InputError(f"{source.address}: {error}; it is no {source.shape.layout}") from error
    except OSError as error:
        raise InputError(
            f"cannot read {source.address}: {error.strerror or error}; ingest again"
        ) from error
    return RowIndex(rows, tuple(offsets), position, cut=cut)


def _path(source: SourceFile) -> Path:
    return (
        cache_folder("rows") / f"{hashlib.sha256(source.address.encode()).hexdigest()[:32]}.json"
    )


def _facts(source: SourceFile) -> dict[str, object]:
    """What an index stands for."""
    return {
        "version": INDEX_VERSION,
        "address": source.address,
        "stamp": asdict(source.stamp),
        "layout": source.shape.layout,
        "data_offset": source.shape.data_offset,
        "stride": STRIDE,
    }
