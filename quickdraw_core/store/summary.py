"""A store's description and its verification as facts and tables for the terminal. Pure."""

from typing import TYPE_CHECKING

from quickdraw_core.errors import first_few

if TYPE_CHECKING:
    from quickdraw_core.store.describe import Description, Distribution
    from quickdraw_core.store.verify import VerifyResult


def describe_facts(store: "Description") -> dict[str, str]:
    """What a store holds, in a few lines."""
    splits = f"{store.train:,} train, {store.validation:,} validation, {store.test:,} test"
    facts = {
        "store": f"{store.store} ({store.files:,} files, {store.size_bytes / 1e6:,.1f} MB"
        + (f", {store.bytes_per_drawing:.1f} bytes a drawing)" if store.drawings else ")"),
        "drawings": f"{store.drawings:,} of {store.classes:,} classes: {splits}",
        "rows": f"{store.rows_read:,} read, {sum(store.rejected.values()):,} rejected",
        "recognized": _share(store.recognized),
        "strokes": _spread(store.strokes),
        "points": _spread(store.points),
        "countries": first_few([f"{c.code} {c.share:.1%}" for c in store.countries]),
        "times": f"{store.first_timestamp} to {store.last_timestamp}",
    }
    sources = [f"{s.files:,} {s.form} ({s.size_bytes / 1e6:,.1f} MB)" for s in store.sources]
    return facts | {"sources": ", ".join(sources)}


def class_table(store: "Description", classes: int) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of classes, the first `classes` of them."""
    heads = ["word", "drawings", "recognized", "strokes", "points", "train", "validation", "test"]
    rows = [
        [
            c.word if c.word is not None else "(no word)",
            f"{c.drawings:,}",
            _share(c.recognized),
            f"{c.strokes:.1f}" if c.strokes is not None else "–",
            f"{c.points:.1f}" if c.points is not None else "–",
            *(f"{count:,}" for count in (c.train, c.validation, c.test)),
        ]
        for c in store.by_class[:classes]
    ]
    if len(store.by_class) > classes:
        rows.append([f"… {len(store.by_class) - classes} more (--classes N)", *[""] * 7])
    return heads, rows


def verify_facts(result: "VerifyResult") -> dict[str, str]:
    """What was read again, and whether all of it is right."""
    state = f"{len(result.problems):,} problems" if result.problems else "all is right"
    facts = {
        "store": f"{result.store} ({state})",
        "read": f"{result.rows:,} drawings in {result.files:,} files, "
        f"{result.bytes_read / 1e6:,.1f} MB; {result.rejected:,} rejected rows",
    }
    return facts | ({"notes": "; ".join(result.notes)} if result.notes else {})


def _share(value: float | None) -> str:
    return f"{value:.1%}" if value is not None else "–"


def _spread(values: "Distribution") -> str:
    if values.mean is None:
        return "–"
    return (
        f"mean {values.mean:.1f}, p50 {values.p50}, p90 {values.p90}, p99 {values.p99}, "
        f"largest {values.max}"
    )
