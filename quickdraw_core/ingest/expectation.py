"""How many rows an ingest will read, before all files have been counted."""

from quickdraw_core.sources.files import SourceFile


class Expectation:
    """Tells the rows of all sources from those of the files, and parts of files, known so far."""

    def __init__(self, sources: list[SourceFile]) -> None:
        self._total_bytes = sum(source.stamp.size_bytes for source in sources)
        self._known: dict[str, tuple[int, int]] = {}
        self._rows = self._bytes = 0

    def of(self, source: SourceFile, rows: int, size_bytes: int) -> None:
        """So many rows of a source are wanted in its first bytes; the last word counts."""
        before_rows, before_bytes = self._known.get(source.address, (0, 0))
        self._known[source.address] = rows, size_bytes
        self._rows += rows - before_rows
        self._bytes += size_bytes - before_bytes

    @property
    def rows(self) -> int:
        """Rows expected of all sources together; exact once all are known as a whole."""
        return round(self._rows * self._total_bytes / max(1, self._bytes))
