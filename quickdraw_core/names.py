"""Names from outside, checked before one of them names a file.

File names, addresses, listings, manifests, receipts, archives, MLflow and command lines all give
names. A word of a class becomes a folder (`word=hot_dog`), and a manifest's path is opened; so
both are checked here, wherever they come from.
"""

import unicodedata

from quickdraw_core.errors import InputError, nearest
from quickdraw_core.labels import challenge_words, spaced

_MAX_BYTES = 200
"""Of a word in UTF-8: a file system allows names of 255, and `word=` stands in front."""

_NOT_IN_WORDS = frozenset('/\\:*?"<>|%=#{}[]\ufffd')
"""Characters that mean something in a path, an address, a glob or a Hive partition, and the one
that stands for bytes that are no text.
"""

_JOINERS = "\u200c\u200d"
"""Invisible characters that Persian words and compound emoji need."""


def clean_word(text: str) -> str:
    """A word in its one spelling: single spaces for underscores, none at the ends, and an accent
    as one character with its letter (Unicode's NFC).
    """
    return " ".join(unicodedata.normalize("NFC", spaced(text)).split())


def check_word(word: str) -> None:
    """Raises `InputError`, with the nearest known word, unless `word` has a word's form.

    A word is written as `clean_word` writes it, has 1 to 200 bytes in UTF-8 and begins with
    neither a dot nor a dash. It may hold letters and digits of any script, symbols, spaces and
    punctuation, but no control characters and none of / \\ : * ? " < > | % = # { } [ ].
    """
    fault = _fault_of(word)
    if fault is not None:
        bare = "".join(c if c.isalnum() or c in "-'" else " " for c in word).strip(" -")
        raise InputError(
            f"{word!r} cannot be the word of a class: {fault}; name the file after its class "
            f"({nearest(' '.join(bare.split()), challenge_words())})"
        )


def is_word(text: str) -> bool:
    """Whether a text has a word's form: see `check_word`."""
    return _fault_of(text) is None


def check_relative(path: str) -> None:
    """Raises `InputError` unless `path` stays in the folder that it is relative to: parts with
    slashes between, none of them empty, `.` or `..`, and no NUL.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise InputError(f"{path!r} is no name of a file inside a folder; it is not read")


def _fault_of(word: str) -> str | None:
    try:
        size_bytes = len(word.encode())
    except UnicodeEncodeError:
        return "it holds bytes that are no text in UTF-8"
    if not word:
        return "it is empty"
    if size_bytes > _MAX_BYTES:
        return f"it has {size_bytes} bytes, and no more than {_MAX_BYTES} fit"
    if word[0] in ".-":
        return f"it begins with {word[0]!r}"
    for character in word:
        is_invisible = unicodedata.category(character).startswith("C")
        if character in _NOT_IN_WORDS or (is_invisible and character not in _JOINERS):
            return f"it holds {character!r}"
    if word != clean_word(word):
        return f"it is written {clean_word(word)!r}"
    return None
