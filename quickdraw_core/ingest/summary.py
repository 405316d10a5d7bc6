"""What an ingest tells in few lines, for the UI of whoever ran it. Pure."""

from quickdraw_core.ingest.result import IngestResult

_FILES = 20
"""Files with rejected rows that are named; the rest is counted."""


def ingest_markdown(result: IngestResult) -> str:
    """What the store holds now, and which rows were refused why, as tables."""
    rejected = result.rows_read - result.rows_kept
    lines = [
        f"**{result.rows_kept:,} drawings of {result.classes} classes** in `{result.store}`",
        "",
        "| rows | |",
        "| --- | --- |",
        f"| read | {result.rows_read:,} |",
        f"| kept | {result.rows_kept:,} |",
        f"| rejected | {rejected:,} |",
        f"| held out as test | {result.test_share:.1%} |",
        f"| windows, done before | {result.windows:,}, {result.windows_reused:,} |",
    ]
    if result.left_out:
        lines += ["", "| left out, since it cannot be read | |", "| --- | --- |"]
        lines += [f"| {name} | {reason} |" for name, reason in result.left_out.items()]
    if result.unread:
        lines += ["", f"Not read: {', '.join(result.unread)}"]
    if result.cut:
        lines += ["", f"Cut short, kept as far as they go: {', '.join(result.cut)}"]
    if result.rejected:
        lines += ["", "| rejected because | rows |", "| --- | --- |"]
        lines += [f"| {reason} | {rows:,} |" for reason, rows in _most(result.rejected)]
        lines += ["", "| rejected of file | rows |", "| --- | --- |"]
        files = _most(result.rejected_by_source)
        lines += [f"| {name} | {rows:,} |" for name, rows in files[:_FILES]]
        if len(files) > _FILES:
            more = sum(rows for _, rows in files[_FILES:])
            lines += [f"| {len(files) - _FILES} more | {more:,} |"]
        lines += ["", f"The rows themselves, with line and reason: `{result.store}/quarantine`"]
    return "\n".join(lines) + "\n"


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Items by falling count, then by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
