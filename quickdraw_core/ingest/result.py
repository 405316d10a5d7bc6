"""The result of an ingest, and the error for classes that were left out."""

from dataclasses import dataclass, field

from quickdraw_core.errors import UnreadableError, first_few
from quickdraw_core.storage.location import Location
from quickdraw_core.storage.urls import name_of
from quickdraw_core.store.manifest import Manifest

_SHOWN = 3
"""Faulty files that an error message names; the rest is counted."""


@dataclass(frozen=True)
class IngestResult:
    """The result of a finished ingest. skipped: everything was there already.

    windows_reused: windows of the store that an earlier run had finished; rejected_by_source:
    rejected rows by the name of their file; cut: names of files that end in the middle of a row;
    left_out: why a file could not be read and its class is not in the store, by address; unread:
    what looks like a file of drawings and was not read, each with the reason; examples: a row for
    each reason of `rejected`, by file and line, and what it has; card_written: files of
    the dataset card that were written though all else was there; card_problem: why not all of the
    card could be written, or None.
    """

    store: Location
    fingerprint: str
    classes: int
    rows_read: int
    rows_kept: int
    rejected: dict[str, int]
    rejected_by_source: dict[str, int]
    cut: tuple[str, ...]
    windows: int
    windows_reused: int
    test_share: float
    skipped: bool
    left_out: dict[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    examples: dict[str, str] = field(default_factory=dict)
    card_written: tuple[str, ...] = ()
    card_problem: str | None = None


class LeftOutError(UnreadableError):
    """Files could not be read; the classes of the others are in the store, see `result`."""

    def __init__(self, result: IngestResult) -> None:
        count = len(result.left_out)
        classes = "1 class is" if count == 1 else f"{count} classes are"
        super().__init__(
            f"{classes} left out of {result.store}, which holds the other {result.classes}: "
            f"{explain(result.left_out)}; repair that and give the same command again, without "
            "--fresh, which reads nothing else, or name the classes to use with --classes"
        )
        self.result = result

    def __reduce__(self) -> tuple[type["LeftOutError"], tuple[IngestResult]]:
        return LeftOutError, (self.result,)


def explain(faults: dict[str, str]) -> str:
    """The first few reasons, each of which names its file, and the number of others."""
    return first_few(list(faults.values()), _SHOWN, "; ")


def result_of(
    store: Location,
    manifest: Manifest,
    reused: int,
    skipped: bool,
    left_out: dict[str, str],
    unread: tuple[str, ...],
) -> IngestResult:
    """The result of the ingest that made a store, by its manifest."""
    return IngestResult(
        store=store,
        fingerprint=manifest.fingerprint,
        classes=len(manifest.label_map) if manifest.label_map is not None else 0,
        rows_read=manifest.rows_read,
        rows_kept=manifest.rows_kept,
        rejected=manifest.rejected,
        rejected_by_source={
            name_of(source.location): sum(source.rejected.values())
            for source in manifest.sources
            if source.rejected
        },
        cut=tuple(name_of(source.location) for source in manifest.sources if source.cut),
        windows=len(manifest.files),
        windows_reused=reused,
        test_share=manifest.holdout.test_share,
        skipped=skipped,
        left_out=left_out,
        unread=unread,
        examples={
            reason: f"{name_of(source.location)} {text}"
            for source in reversed(manifest.sources)
            for reason, text in source.examples.items()
        },
    )
