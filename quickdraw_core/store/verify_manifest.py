"""Whether a manifest agrees with itself. Pure: from the record to its faults."""

from collections.abc import Iterable, Iterator

from quickdraw_core.errors import first_few
from quickdraw_core.store.manifest import FileRecord, Manifest, SourceRecord, count_reasons
from quickdraw_core.store.schema import part_path

_SHOWN = 3


def manifest_faults(manifest: Manifest) -> list[str]:
    """The faults of a manifest, a text each: sums, paths, windows, words, the holdout rule."""
    return [
        *_file_faults(manifest.files),
        *_source_faults(manifest),
        *_word_faults(manifest),
        *_option_faults(manifest),
    ]


def _file_faults(files: list[FileRecord]) -> Iterator[str]:
    paths: set[str] = set()
    for file in files:
        numbers = file.first_row, file.rows_read, file.rows, file.strokes, file.points
        if min(*numbers, file.size_bytes) < 0 or any(n <= 0 for n in file.rejected.values()):
            yield f"{file.path} has a negative number of something"
        if file.path != part_path(file.word, file.first_row):
            yield (
                f"{file.path} is not the path of row {file.first_row:,} of {_name(file.word)}, "
                f"which is {part_path(file.word, file.first_row)}"
            )
        if file.path in paths:
            yield f"{file.path} is named twice"
        paths.add(file.path)
        if fault := _sum_fault(file.rows_read, file.rows, file.rejected):
            yield f"{file.path}: {fault}"
        if bool(file.rejected) != (file.quarantine_sha256 is not None):
            yield f"{file.path} has rejected rows or a quarantine file, but not both"


def _source_faults(manifest: Manifest) -> Iterator[str]:
    """Each source against its files, those of its word."""
    by_word: dict[str | None, list[FileRecord]] = {source.word: [] for source in manifest.sources}
    if len(by_word) < len(manifest.sources):
        yield "two sources have the same word"
    for file in manifest.files:
        if file.word not in by_word:
            yield f"{file.path} is of {_name(file.word)}, for which there is no source"
        by_word.setdefault(file.word, []).append(file)
    for source in manifest.sources:
        files = sorted(by_word[source.word], key=lambda file: file.first_row)
        if fault := _sum_fault(source.rows_read, source.rows_kept, source.rejected):
            yield f"{source.location}: {fault}"
        yield from _total_faults(source, files)
        yield from _window_faults(source, files, str(manifest.options.get("rows")))


def _total_faults(source: SourceRecord, files: list[FileRecord]) -> Iterator[str]:
    if not files:
        yield f"{source.location} has no file in the store"
    for what, recorded, counted in (
        ("read", source.rows_read, sum(file.rows_read for file in files)),
        ("kept", source.rows_kept, sum(file.rows for file in files)),
    ):
        if files and recorded != counted:
            yield f"{source.location}: {recorded:,} rows {what}, but {counted:,} by its files"
    if files and source.rejected != count_reasons(file.rejected for file in files):
        yield f"{source.location}: its rejected rows are not those of its files"


def _window_faults(source: SourceRecord, files: list[FileRecord], rows: str) -> Iterator[str]:
    """Of windows in the order of their rows: overlaps, and ends behind the source's end."""
    end = 0
    for file in files:
        if file.first_row < end:
            yield f"{file.path} begins at row {file.first_row:,}, before row {end:,} of another"
        end = max(end, file.first_row + file.rows_read)
    if source.rows is not None and end > source.rows:
        yield f"{source.location} has {source.rows:,} rows, its windows end at row {end:,}"
    if rows == "all" and files and source.rows is not None and source.rows_read != source.rows:
        yield f"{source.location}: {source.rows_read:,} of all its {source.rows:,} rows were read"


def _word_faults(manifest: Manifest) -> Iterator[str]:
    of_files = {file.word for file in manifest.files}
    words = set(manifest.label_map.words) if manifest.label_map is not None else set()
    if manifest.label_map is None and of_files - {None}:
        yield f"there is no label map, but files have words: {_some(of_files - {None})}"
    if manifest.label_map is not None and of_files - words:
        yield f"words of files that the label map lacks: {_some(of_files - words)}"
    if words - of_files:
        yield f"words of the label map without any file: {_some(words - of_files)}"


def _option_faults(manifest: Manifest) -> Iterator[str]:
    for name in ("salt", "validation_share"):
        option, rule = manifest.options.get(name), getattr(manifest.holdout, name)
        if option != rule:
            yield f"the options have {name} {option}, the holdout rule has {rule}"


def _sum_fault(read: int, kept: int, rejected: dict[str, int]) -> str | None:
    refused = sum(rejected.values())
    if read == kept + refused:
        return None
    return f"{read:,} rows read, but {kept:,} kept + {refused:,} rejected"


def _name(word: str | None) -> str:
    return "no word" if word is None else repr(word)


def _some(words: Iterable[str | None]) -> str:
    names = sorted(_name(word) for word in words)
    return first_few(names, _SHOWN)
