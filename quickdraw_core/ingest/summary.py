"""What an ingest did: facts for the terminal, Markdown for Prefect, from the same rows. Pure."""

from typing import TYPE_CHECKING

from quickdraw_core.errors import first_few

if TYPE_CHECKING:
    from quickdraw_core.ingest.result import IngestResult

_FILES = 20
"""Files with rejected rows that the Markdown names."""


def ingest_facts(result: "IngestResult") -> dict[str, str]:
    """Where the store is, what it holds, and what was rejected: name → text."""
    state = "written"
    if result.skipped:
        card = " and ".join(result.card_written)
        state = f"up to date, but {card} written" if card else "up to date, nothing to do"
    facts = {
        "store": f"{result.store} ({state})",
        "drawings": f"{result.rows_kept:,} of {result.classes} classes, "
        f"{result.test_share:.1%} held out as test",
        "rows": f"{result.rows_read:,} read = {result.rows_kept:,} kept + "
        f"{result.rows_read - result.rows_kept:,} rejected",
    }
    if result.windows_reused and not result.skipped:
        facts["reused"] = (
            f"{result.windows_reused:,} of {result.windows:,} windows were done before"
        )
    if result.card_problem:
        facts["dataset card"] = f"not all written: {result.card_problem}"
    if result.unread:
        facts["not read"] = first_few(result.unread)
    if result.cut:
        facts["cut short"] = f"{first_few(result.cut)}; what is there was kept"
    if result.rejected:
        reasons = ", ".join(
            f"{reason}: {count:,}"
            + (f" ({result.examples[reason]})" if reason in result.examples else "")
            for reason, count in result.rejected.items()
        )
        facts["rejected"] = f"{reasons}; in {result.store / 'quarantine'}"
        facts["of files"] = first_few(_rejected_files(result))
    return facts


def ingest_markdown(result: "IngestResult") -> str:
    """The facts as a table, then each file that was left out or has rejected rows."""
    lines = ["| ingest | |", "| --- | --- |"]
    lines += [f"| {name} | {text} |" for name, text in ingest_facts(result).items()]
    if result.left_out:
        lines += ["", "| left out, since it cannot be read | |", "| --- | --- |"]
        lines += [f"| {name} | {reason} |" for name, reason in result.left_out.items()]
    if result.rejected:
        lines += ["", f"Rejected rows: {first_few(_rejected_files(result), _FILES)}"]
    return "\n".join(lines) + "\n"


def _rejected_files(result: "IngestResult") -> list[str]:
    """Each file with its rejected rows, those with most first."""
    counts = sorted(result.rejected_by_source.items(), key=lambda item: (-item[1], item[0]))
    return [f"{name} ({count:,})" for name, count in counts]
