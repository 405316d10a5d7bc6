"""The end of an ingest: from receipts to a manifest, and nothing left beside what it names."""

from collections.abc import Iterable
from typing import Any

from quickdraw_core.errors import InputError
from quickdraw_core.formats.rows import CUT_SHORT
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.plan import PlannedSource
from quickdraw_core.ingest.receipts import Receipt
from quickdraw_core.labels import LabelMap
from quickdraw_core.sources.unpacked import explain_cut
from quickdraw_core.store.holdout import HoldoutRule, choose_test_share
from quickdraw_core.store.location import Location
from quickdraw_core.store.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Manifest,
    SourceRecord,
    count_reasons,
)
from quickdraw_core.store.place import place_of
from quickdraw_core.store.reading import on_threads
from quickdraw_core.store.schema import part_name

ALLOW_CUT_ADVICE = ", or keep the rows before with --allow-cut"
_SHOWN = 3
_FOLDERS = ("drawings", "quarantine", "receipts")


def build_manifest(
    config: IngestConfig,
    options: dict[str, Any],
    planned: list[PlannedSource],
    receipts: list[Receipt],
    previous: Manifest | None,
) -> Manifest:
    """The record of a run all of whose windows are done."""
    files = sorted((receipt.file for receipt in receipts), key=lambda file: file.path)
    by_word: dict[str | None, list[FileRecord]] = {}
    for file in files:
        by_word.setdefault(file.word, []).append(file)
    words = [p.source.word for p in planned if p.source.word is not None]
    return Manifest(
        format_version=FORMAT_VERSION,
        options=options,
        label_map=LabelMap.of(words) if words else None,
        holdout=previous.holdout if previous else _choose_holdout(config, receipts),
        sources=[_source_record(p, by_word[p.source.word]) for p in planned],
        files=files,
    )


def _source_record(planned: PlannedSource, files: list[FileRecord]) -> SourceRecord:
    source = planned.source
    return SourceRecord(
        location=source.address,
        word=source.word,
        form=f"{source.shape.layout}{' raw' if source.shape.raw else ''}",
        size_bytes=source.stamp.size_bytes,
        mtime_ns=source.stamp.mtime_ns,
        head_tail_sha256=source.stamp.head_tail_sha256,
        rows=planned.index.rows if planned.index.complete else None,
        rows_read=sum(file.rows_read for file in files),
        rows_kept=sum(file.rows for file in files),
        rejected=count_reasons(file.rejected for file in files),
        cut=planned.index.cut,
    )


def _choose_holdout(config: IngestConfig, receipts: list[Receipt]) -> HoldoutRule:
    """The rule of a new store: shares such that every class has its test drawings."""
    by_word: dict[str | None, list[int]] = {}
    for receipt in receipts:
        by_word.setdefault(receipt.file.word, []).extend(receipt.smallest_hashes)
    wanted = config.test_per_class
    nth = [sorted(h)[wanted - 1] if len(h) >= wanted else None for h in by_word.values()]
    return HoldoutRule(
        salt=config.salt,
        test_share=choose_test_share(nth, config.max_test_share),
        validation_share=config.validation_share,
    )


def require_readable(sources: list[SourceRecord], config: IngestConfig) -> None:
    """Raises `InputError` naming the sources of whose rows too many were refused, and one that
    was cut short unless that is allowed.
    """
    max_rejected, store = config.max_rejected, config.store
    faulty = []
    for source in sources:
        if source.cut and not config.allow_cut:
            raise InputError(explain_cut(source.location, source.cut) + ALLOW_CUT_ADVICE)
        refused = source.rows_read - source.rows_kept - source.rejected.get(CUT_SHORT, 0)
        if not source.rows_kept:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in source.rejected.items())
            raise InputError(
                f"{source.location} gave no drawing: {source.rows_read} rows, {reasons}; "
                "repair the file or leave the class out"
            )
        if refused > max_rejected * source.rows_read:
            reason = next(iter(source.rejected))
            share = refused / source.rows_read
            faulty.append(
                f"{source.location}: {refused:,} of {source.rows_read:,} rows ({share:.2%}; "
                f"most often: {reason})"
            )
    if faulty:
        more = f" and {len(faulty) - _SHOWN} more files" if len(faulty) > _SHOWN else ""
        raise InputError(
            f"more than {max_rejected:.2%} of a file's rows cannot be read: "
            f"{'; '.join(faulty[:_SHOWN])}{more}; see {store / 'quarantine'}, then repair the "
            "source, or allow more with --max-rejected (nothing needs to be read again)"
        )


def remove_strangers(store: Location, manifest: Manifest) -> None:
    """Deletes what earlier ingests left and the manifest does not name, a killed one's too."""
    place = place_of(store)
    named = {name for file in manifest.files for name in _names(file)}
    strangers = [name for name in place.names() if name not in named and _is_ours(name)]
    for _ in on_threads(place.remove, strangers, place.threads):
        pass
    for folder in _FOLDERS if strangers else ():
        place.prune(folder)


def _is_ours(name: str) -> bool:
    """Whether a file of a store is such as an ingest writes, of any of its windows."""
    top, *below = name.split("/")
    if not below:
        return name.startswith(".") and name.endswith(".tmp")
    return top in _FOLDERS and len(below) == 2 and below[0].startswith("word=")


def _names(file: FileRecord) -> Iterable[str]:
    name = part_name(file.word, file.first_row)
    yield file.path
    yield f"receipts/{name}.json"
    if file.quarantine_sha256 is not None:
        yield f"quarantine/{name}.jsonl"
