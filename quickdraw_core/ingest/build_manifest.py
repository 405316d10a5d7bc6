"""The end of an ingest: from receipts to a manifest, and which sources are too faulty for it."""

from typing import TYPE_CHECKING, Any

from quickdraw_core.formats.rows import CUT_SHORT
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.labels import LabelMap
from quickdraw_core.sources.unpacked import explain_cut
from quickdraw_core.store.holdout import HoldoutRule, choose_test_share
from quickdraw_core.store.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Manifest,
    SourceRecord,
    count_reasons,
)

if TYPE_CHECKING:
    from quickdraw_core.ingest.receipts import Receipt
    from quickdraw_core.ingest.tasks import PlannedSource

ALLOW_CUT_ADVICE = ", or keep the rows before with --allow-cut"


def build_manifest(
    config: IngestConfig,
    options: dict[str, Any],
    planned: list["PlannedSource"],
    receipts: list["Receipt"],
    previous: Manifest | None,
) -> Manifest:
    """The record of a run of which all windows are done."""
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
        sources=[source_record(p, by_word[p.source.word]) for p in planned],
        files=files,
    )


def source_record(planned: "PlannedSource", files: list[FileRecord]) -> SourceRecord:
    """The record of a source of which all windows are done."""
    source = planned.source
    return SourceRecord(
        location=source.address,
        word=source.word,
        form=f"{source.format.layout}{' raw' if source.format.raw else ''}",
        size_bytes=source.stamp.size_bytes,
        mtime_ns=source.stamp.mtime_ns,
        head_tail_sha256=source.stamp.head_tail_sha256,
        rows=planned.index.rows if planned.index.complete else None,
        rows_read=sum(file.rows_read for file in files),
        rows_kept=sum(file.rows for file in files),
        rejected=count_reasons(file.rejected for file in files),
        examples={k: text for file in reversed(files) for k, text in file.examples.items()},
        cut=planned.index.cut,
    )


def _choose_holdout(config: IngestConfig, receipts: list["Receipt"]) -> HoldoutRule:
    """The rule of a new store: shares such that every class has its test drawings."""
    by_word: dict[str | None, list[int]] = {}
    for receipt in receipts:
        by_word.setdefault(receipt.file.word, []).extend(receipt.smallest_hashes)
    wanted = config.test_per_class
    share = 0.0
    if wanted:
        nth = [sorted(h)[wanted - 1] if len(h) >= wanted else None for h in by_word.values()]
        share = choose_test_share(nth, config.max_test_share)
    return HoldoutRule(
        salt=config.salt,
        test_share=share,
        validation_share=config.validation_share,
    )


def fault_of(source: SourceRecord, config: IngestConfig, quarantine: str) -> str | None:
    """Why a source cannot be used: it was cut short, or too many of its rows were rejected.
    None: it can. quarantine: where the rejected rows can be read.
    """
    if source.cut and not config.allow_cut:
        return explain_cut(source.location, source.cut) + ALLOW_CUT_ADVICE
    if not source.rows_kept:
        reasons = ", ".join(
            f"{reason} ({_first(source, reason, n)})" for reason, n in source.rejected.items()
        )
        read = f"{source.rows_read} rows, {reasons}"
        return f"{source.location} gave no drawing: {read}; see {quarantine}"
    rejected = source.rows_read - source.rows_kept - source.rejected.get(CUT_SHORT, 0)
    if rejected > config.max_rejected * source.rows_read:
        reason, count = next(iter(source.rejected.items()))
        return (
            f"{source.location}: more than {config.max_rejected:.2%} of a file's rows cannot be "
            f"read: {rejected:,} of {source.rows_read:,} rows ({rejected / source.rows_read:.2%}; "
            f"most often: {reason}, {_first(source, reason, count)}); see {quarantine}, or allow "
            "more with --max-rejected"
        )
    return None


def _first(source: SourceRecord, reason: str, count: int) -> str:
    """How many rows were rejected for a reason, and what the first of them has."""
    example = source.examples.get(reason)
    return f"{count:,}" if example is None else f"{count:,}, the first in {example}"
