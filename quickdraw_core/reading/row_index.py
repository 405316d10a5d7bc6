"""Where the rows of a file begin, so that a window is read without the rows before it.

An index is the result of one scan. It is kept in the user's cache folder until the file changes.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.formats.readers import RowReader, is_cut, reader_for
from quickdraw_core.reading.blocks import go_to, input_errors, window_blocks
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
    lines before it; rows: data rows so far; end: the byte after the last one; complete: the file
    holds no more; cut: in the middle of what the file ends, empty if it is whole.
    """

    rows: int
    offsets: tuple[int, ...]
    end: int
    complete: bool = True
    cut: str = ""

    def start_of(self, row: int) -> tuple[int, int]:
        """Where to begin reading in order to reach `row`: (a byte, the row that begins there)."""
        block = min(row // STRIDE, len(self.offsets) - 1)
        return self.offsets[block], block * STRIDE

    def end_of(self, row: int) -> int:
        """A byte at or behind the end of row `row - 1`."""
        block = -(-row // STRIDE)
        return self.offsets[block] if block < len(self.offsets) else self.end


def index_rows(source: SourceFile, enough: int | None = None) -> RowIndex:
    """The index of a source: from the cache if it fits the file as it is, else by a scan.

    enough: rows after which the scan may stop; then the index is not complete, and not kept. A
    last row that is cut off counts as a row. Raises `InputError` naming the file.
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
    """Raises `InputError`, which ends with `advice`, if a file was cut short."""
    if index.cut:
        raise InputError(explain_cut(source.address, index.cut) + advice)


def cut_of(reader: RowReader, row: UInt8Array) -> str:
    """`RowIndex.cut` by a file's last row (uint8 [B]), which lacks its end."""
    return "a row" if is_cut(reader, row) else ""


def cached_index(source: SourceFile) -> RowIndex | None:
    """The index in the cache, if there is one that fits the file as it is."""
    facts = _facts(source)
    try:
        stored = json.loads(_path(source).read_text(encoding="utf-8"))
        if {name: stored[name] for name in facts} != facts:
            return None
        offsets = tuple(map(int, stored["offsets"]))
        index = RowIndex(int(stored["rows"]), offsets, int(stored["end"]), cut=str(stored["cut"]))
        return index if len(index.offsets) == -(-index.rows // STRIDE) else None
    except (ConfigError, OSError, ValueError, KeyError, TypeError):
        return None


def keep_index(source: SourceFile, index: RowIndex) -> None:
    """Keeps a complete index for later runs. Without a cache folder, each run scans again."""
    # If the file has changed, the stamp does not stand for what was read.
    if index.complete and source.current_stamp() == source.stamp:
        with suppress(ConfigError, OSError):
            write_atomic(_path(source), json.dumps(_facts(source) | asdict(index)), sync=False)


def _scan(source: SourceFile, enough: int | None) -> RowIndex:
    reader = reader_for(source.format, source.word)
    rows, position, cut = 0, source.format.data_offset, ""
    offsets = [position]
    advice = f"it is not {source.format.layout}"
    with input_errors(source, advice), source.open(cut_short=True) as file:
        go_to(file, position, source.sequential)
        span = Window(0, _ALL_ROWS)
        for block in window_blocks(file, reader, 0, span, _BLOCK_BYTES, every=STRIDE):
            offsets += [position + end for end in block.ends]
            position += len(block.data)
            rows += block.rows
            if block.cut_at is not None:
                cut = cut_of(reader, block.data[block.cut_at :])
            if enough is not None and rows >= enough:
                cut = cut if rows == enough else ""  # of a row that is not wanted
                break
        else:
            enough, cut = None, broken_off(file) or cut
    kept = tuple(offsets[: -(-rows // STRIDE)])  # without the end of the last row
    return RowIndex(rows, kept, position, complete=enough is None, cut=cut)


def _path(source: SourceFile) -> Path:
    return (
        cache_folder("rows") / f"{hashlib.sha256(source.address.encode()).hexdigest()[:32]}.json"
    )


def _facts(source: SourceFile) -> dict[str, object]:
    """What an index has to agree with."""
    return {
        "version": INDEX_VERSION,
        "address": source.address,
        "stamp": asdict(source.stamp),
        "layout": source.format.layout,
        "data_offset": source.format.data_offset,
        "stride": STRIDE,
    }
