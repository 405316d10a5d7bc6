"""A folder of Kaggle CSVs, one a class: `<word>.csv`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.errors import InputError
from quickdraw_core.formats.kaggle import TRAIN_COLUMNS, Header, require_known_words
from quickdraw_core.labels import spaced


@dataclass(frozen=True)
class SourceFile:
    """One class's CSV and what tells whether it changed."""

    path: Path
    word: str
    size_bytes: int
    mtime_ns: int


def find_sources(folder: Path, words: Iterable[str] | None = None) -> list[SourceFile]:
    """The CSVs of `folder`, sorted by word; with `words`, of those classes alone.

    Checks before any work: the folder is there, every word has its file, every file has the
    header of Kaggle's training CSVs. Raises `InputError` otherwise.
    """
    if not folder.is_dir():
        raise InputError(_explain_missing(folder))
    by_word = {spaced(path.stem): path for path in folder.glob("*.csv") if path.is_file()}
    if not by_word:
        inside = sorted(p.name for p in folder.iterdir())[:5]
        hint = next((d for d in folder.iterdir() if d.is_dir() and any(d.glob("*.csv"))), None)
        raise InputError(
            f"no CSV file in {folder}: found {', '.join(inside) or 'nothing'}; "
            + (f"did you mean {hint}?" if hint else "give the folder that holds <word>.csv files")
        )
    chosen = sorted(by_word) if words is None else sorted({spaced(word) for word in words})
    require_known_words(chosen, by_word, folder)
    return [_checked(by_word[word], word) for word in chosen]


def _checked(path: Path, word: str) -> SourceFile:
    try:
        with path.open("rb") as file:
            Header.parse(file.readline(1 << 16), TRAIN_COLUMNS, path)
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    return SourceFile(path.resolve(), word, status.st_size, status.st_mtime_ns)


def _explain_missing(folder: Path) -> str:
    if folder.exists():
        return f"{folder} is a file, not a folder; give the folder that holds <word>.csv files"
    parent = folder.absolute().parent
    if parent.is_dir():
        inside = sorted(p.name for p in parent.iterdir() if p.is_dir())[:8]
        found = f"{parent} holds {', '.join(inside)}" if inside else f"{parent} holds no folder"
    else:
        found = f"{parent} is missing too"
    return f"no folder {folder}: {found}; give the folder that holds <word>.csv files"
