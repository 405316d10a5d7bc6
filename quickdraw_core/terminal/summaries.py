"""What a finished stage tells its user: name → value, a line each. Pure; `cli.py` prints it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quickdraw_core.sources.fetch import FetchResult


def fetch_facts(result: "FetchResult") -> dict[str, str]:
    """What is in the folder now, and what had to be fetched for it."""
    files = len(result.fetched) + len(result.present)
    facts = {
        "files": f"{files:,} of {result.format} drawings in {result.folder}, "
        f"{result.size_bytes:,} bytes"
    }
    if not result.fetched:
        return facts | {"fetched": "nothing, all files were there"}
    how = [f"{len(result.present):,} were there"] if result.present else []
    how += [f"{len(result.continued):,} continued"] if result.continued else []
    more = f" ({', '.join(how)})" if how else ""
    fetched = f"{len(result.fetched):,} files, {result.received_bytes:,} bytes{more}"
    return facts | {"fetched": fetched}
