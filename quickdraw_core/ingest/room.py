"""What a store and its pack will take on the disk, by the sizes of the sources."""

from collections.abc import Iterable
from pathlib import Path

from quickdraw_core.formats.detect import Layout
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.reading.windows import RowSelection
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.storage.storage import PACKS
from quickdraw_core.store.manifest import MANIFEST_NAME, UNFINISHED
from quickdraw_core.system.disk import Need, size_of_files

_STORE_BYTES, _PACK_BYTES = 100, 125
"""Of a drawing, rather less than more: of real ones 105 to 118, and 141. What would fit is not to
be refused."""
_ROW_BYTES = {
    (Layout.CSV, False): 545,
    (Layout.CSV, True): 4_200,
    (Layout.NDJSON, False): 560,
    (Layout.NDJSON, True): 4_200,
    (Layout.BINARY, False): 130,
}
"""Of a drawing in a source, rather more than less: (layout, raw)."""
_PACKED = 3
"""How many times smaller gzip and zip make a source, at least."""


def drawings_in(files: Iterable[SourceFile], selection: RowSelection) -> int:
    """About how many drawings an ingest reads; a file whose size is not known counts none."""
    total = 0
    for file in files:
        is_packed = file.compressed or (file.member is not None and file.member.deflated)
        size = file.stamp.size_bytes * (_PACKED if is_packed else 1)
        rows = size // _ROW_BYTES[file.format.layout, file.format.raw]
        limited = selection.kind != "all"
        total += min(rows, selection.windows * selection.rows) if limited else rows
    return total


def store_needs(config: IngestConfig, files: Iterable[SourceFile]) -> list[Need]:
    """What an ingest and the pack after it will still write, if the store is in a folder. What
    is there counts as written: an ingest goes on from it.
    """
    store = config.store
    if not isinstance(store, Path):
        return []
    drawings = drawings_in(files, config.selection)
    if config.fresh:
        # A store that can be read stays until the new one is whole.
        is_readable = (store / MANIFEST_NAME).is_file()
        there = 0 if is_readable else size_of_files(store / "drawings")
    else:
        there = size_of_files(store / "drawings") + size_of_files(store / UNFINISHED)
    return [
        Need("store", max(0, drawings * _STORE_BYTES - there), store, "--store"),
        Need("pack", drawings * _PACK_BYTES, store / PACKS, "--store"),
    ]
