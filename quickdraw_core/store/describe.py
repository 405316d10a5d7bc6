"""What a store holds, in numbers: reads the small columns, file by file, in bounded memory.

The points themselves, nine tenths of a store, are not read: stroke lengths give the numbers of
strokes and points. Only counts and histograms, which add up, are kept of a file.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import StoreError
from quickdraw_core.progress import progress
from quickdraw_core.storage.location import Location
from quickdraw_core.store.columns import Lengths, numbers_of
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.manifest import FileRecord, SourceRecord
from quickdraw_core.store.store import Store
from quickdraw_core.system.prefetch import on_threads

_COLUMNS = ["key_id", "countrycode", "recognized", "timestamp", "stroke_lengths"]


@dataclass(frozen=True)
class Distribution:
    """The distribution of a whole number per drawing. p50, p90, p99: the smallest value that so
    many percent of the drawings do not exceed. None if there is no drawing.
    """

    mean: float | None
    p50: int | None
    p90: int | None
    p99: int | None
    max: int | None

    @classmethod
    def of(cls, histogram: Int64Array) -> "Distribution":
        """From `histogram[value]` = drawings with that value, int64 [largest value + 1]."""
        below = np.cumsum(histogram)
        count = int(below[-1]) if len(below) else 0
        if not count:
            return cls(None, None, None, None, None)
        total = int(histogram @ np.arange(len(histogram)))
        p50, p90, p99 = (
            int(np.searchsorted(below, -(-count * percent // 100))) for percent in (50, 90, 99)
        )
        return cls(total / count, p50, p90, p99, int(np.flatnonzero(histogram)[-1]))


@dataclass(frozen=True)
class Sources:
    """The source files of one form. size_bytes: of the files as they are stored."""

    form: str
    files: int
    size_bytes: int
    rows_read: int
    rows_kept: int


@dataclass(frozen=True)
class Country:
    """Drawings with one country code, and their share of all."""

    code: str
    drawings: int
    share: float


@dataclass(frozen=True)
class ClassSummary:
    """One word's drawings. word: None for those of a test file; recognized: share of the drawings
    for which the source says; strokes, points: mean of a drawing. None if there is no drawing.
    """

    word: str | None
    drawings: int
    recognized: float | None
    strokes: float | None
    points: float | None
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Description:
    """A store in numbers.

    classes: words of the label map; files, size_bytes: of the Parquet files; rows_read: rows of
    the sources = drawings + rejected; recognized: share of the drawings for which the source
    says; recognized_unsaid: the others; first_timestamp, last_timestamp: ISO 8601, UTC, None if no
    drawing has one; countries: most frequent first; by_class: by word.
    """

    store: str
    fingerprint: str
    drawings: int
    classes: int
    files: int
    size_bytes: int
    bytes_per_drawing: float | None
    rows_read: int
    rejected: dict[str, int]
    sources: tuple[Sources, ...]
    recognized: float | None
    recognized_unsaid: int
    train: int
    validation: int
    test: int
    strokes: Distribution
    points: Distribution
    first_timestamp: str | None
    last_timestamp: str | None
    countries: tuple[Country, ...]
    without_country: int
    by_class: tuple[ClassSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as values of JSON."""
        return asdict(self)


def describe_store(path: Location) -> Description:
    """Describes a store by its small columns.

    Raises `StoreError` if there is no whole store, or one of its files cannot be read.
    """
    store = Store.open(path)
    files = store.manifest.files
    total = _Sums()
    by_word: dict[str | None, Counter[str]] = {
        word: Counter() for word in sorted({file.word for file in files}, key=lambda w: w or "")
    }
    with progress("describe", store.manifest.rows_kept, "drawings") as bar:
        sums = on_threads(lambda file: _sums_of(store, file), files, store.storage.threads)
        for file, some in zip(files, sums, strict=True):
            total.add(some)
            by_word[file.word] += some.counts
            bar.advance(some.counts["drawings"])
    return _description(store, total, by_word)


@dataclass
class _Sums:
    """Sums over some drawings.

    counts: drawings, strokes, points, those of each split, and how many the source calls
    recognized or unrecognized; strokes, points: histograms, int64 [largest value + 1]; countries:
    drawings by code, which may be None; times: the first and the last, microseconds since 1970.
    """

    counts: Counter[str] = field(default_factory=Counter)
    strokes: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    points: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    countries: Counter[str | None] = field(default_factory=Counter)
    times: tuple[int, int] | None = None

    def add(self, other: "_Sums") -> None:
        """Adds the drawings of `other`."""
        self.counts += other.counts
        self.strokes = _added(self.strokes, other.strokes)
        self.points = _added(self.points, other.points)
        self.countries.update(other.countries)
        times = [*(self.times or ()), *(other.times or ())]
        self.times = (min(times), max(times)) if times else None


def _added(left: Int64Array, right: Int64Array) -> Int64Array:
    """The sum of two histograms."""
    total = np.zeros(max(len(left), len(right)), np.int64)
    total[: len(left)] += left
    total[: len(right)] += right
    return total


def _sums_of(store: Store, file: FileRecord) -> _Sums:
    """The sums over one file's drawings. Raises `StoreError` if it cannot be read."""
    try:
        table = store.storage.read_table(file.path, _COLUMNS, use_threads=False)
        lengths = Lengths.of(table["stroke_lengths"])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"cannot read {store.storage.address(file.path)}: {error}; "
            f"quickdraw verify {store.path} says what is wrong"
        ) from error
    recognized = table["recognized"].combine_chunks()
    splits = store.manifest.holdout.split(numbers_of(table["key_id"]))
    counts = Counter(
        drawings=len(table),
        strokes=int(lengths.strokes.sum()),
        points=int(lengths.points.sum()),
        recognized=recognized.true_count,
        unrecognized=recognized.false_count,
        **{split.name.lower(): int((splits == split).sum()) for split in Split},
    )
    countries = pc.value_counts(table["countrycode"]).to_pylist()
    times = pc.min_max(table["timestamp"].cast(pa.int64())).as_py()
    return _Sums(
        counts,
        np.bincount(lengths.strokes),
        np.bincount(lengths.points),
        Counter({entry["values"]: entry["counts"] for entry in countries}),
        None if times["min"] is None else (times["min"], times["max"]),
    )


def _description(
    store: Store, total: _Sums, by_word: dict[str | None, Counter[str]]
) -> Description:
    manifest, counts = store.manifest, total.counts
    drawings, size_bytes = counts["drawings"], sum(file.size_bytes for file in manifest.files)
    coded = [(code, count) for code, count in total.countries.items() if code is not None]
    first, last = (_iso_time(time) for time in total.times or (None, None))
    return Description(
        store=str(store.path),
        fingerprint=manifest.fingerprint,
        drawings=drawings,
        classes=len(manifest.label_map) if manifest.label_map is not None else 0,
        files=len(manifest.files),
        size_bytes=size_bytes,
        bytes_per_drawing=_ratio(size_bytes, drawings),
        rows_read=manifest.rows_read,
        rejected=manifest.rejected,
        sources=_sources(manifest.sources),
        recognized=_recognized(counts),
        recognized_unsaid=drawings - counts["recognized"] - counts["unrecognized"],
        train=counts["train"],
        validation=counts["validation"],
        test=counts["test"],
        strokes=Distribution.of(total.strokes),
        points=Distribution.of(total.points),
        first_timestamp=first,
        last_timestamp=last,
        countries=tuple(
            Country(code, count, count / drawings)
            for code, count in sorted(coded, key=lambda item: (-item[1], item[0]))
        ),
        without_country=total.countries[None],
        by_class=tuple(_class_summary(word, counts) for word, counts in by_word.items()),
    )


def _class_summary(word: str | None, counts: Counter[str]) -> ClassSummary:
    return ClassSummary(
        word=word,
        drawings=counts["drawings"],
        recognized=_recognized(counts),
        strokes=_ratio(counts["strokes"], counts["drawings"]),
        points=_ratio(counts["points"], counts["drawings"]),
        train=counts["train"],
        validation=counts["validation"],
        test=counts["test"],
    )


def _sources(records: list[SourceRecord]) -> tuple[Sources, ...]:
    by_form: dict[str, list[SourceRecord]] = {}
    for record in records:
        by_form.setdefault(record.form, []).append(record)
    return tuple(
        Sources(
            form=form,
            files=len(some),
            size_bytes=sum(record.size_bytes for record in some),
            rows_read=sum(record.rows_read for record in some),
            rows_kept=sum(record.rows_kept for record in some),
        )
        for form, some in sorted(by_form.items())
    )


def _recognized(counts: Counter[str]) -> float | None:
    return _ratio(counts["recognized"], counts["recognized"] + counts["unrecognized"])


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _iso_time(microseconds: int | None) -> str | None:
    """ISO 8601 in UTC; by numpy, because a row may have a time outside of datetime's years."""
    return None if microseconds is None else f"{np.datetime64(microseconds, 'us')}Z"
