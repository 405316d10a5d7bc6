"""What the name of a file says: which class it holds, and whether it is one of drawings. Pure.

Names that look like files of drawings and are not read have a reason, so that no class is left
out without a word.
"""

import re
from urllib.parse import unquote

from quickdraw_core.formats.detect import ENDINGS, split_name
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import clean_word

_GOOGLE_PREFIX = re.compile(r"^full_(simplified|raw|binary|numpy_bitmap)_")
_COPY = re.compile(r"(?: ?\(\d+\)| - Copy(?: \(\d+\))?)$")
"""What browsers and file managers put behind the name of a second copy: `cat (1).bin`."""
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".aria2", ".!ut")
_PACKED = (".bz2", ".xz", ".zst", ".lz4", ".br", ".tar", ".tgz", ".7z", ".rar", ".z")
_OTHER_FORMS = (
    ".json",
    ".npy",
    ".npz",
    ".tsv",
    ".txt",
    ".parquet",
    ".feather",
    ".tfrecord",
    ".xlsx",
)


def word_of(name: str) -> str:
    """The word that a file's name stands for, with spaces: `ice cream` of `ice_cream.csv.gz`.

    As downloads really are named: with the folders of Google's public files in front
    (`full_simplified_cat.ndjson`, `full%2Fbinary%2Fcat.bin`), or a browser's mark of a copy behind
    (`cat (1).bin`). Whether it has a word's form, `names.check_word` says.
    """
    stem = split_name(unquote(name).rpartition("/")[2])[0]
    return clean_word(_GOOGLE_PREFIX.sub("", _COPY.sub("", stem)))


def may_hold_drawings(name: str) -> bool:
    """Whether a file's name is that of a file of drawings, or of a zip file that holds one alone,
    as Kaggle serves it: `cat.csv.zip`.
    """
    return is_drawings_file(unzipped_name(name))


def is_drawings_file(name: str) -> bool:
    """Whether a file's name is that of a file of drawings, and complete."""
    return not name.startswith(".") and split_name(name)[1] is not None


def is_zip_name(name: str) -> bool:
    """Whether a file's name is that of a zip file."""
    return name.lower().endswith(".zip")


def unzipped_name(name: str) -> str:
    """`cat.csv` of `cat.csv.zip`; other names as they are."""
    return name[: -len(".zip")] if is_zip_name(name) else name


def why_unread(name: str, is_folder: bool = False) -> str | None:
    """Why a file or folder that is not read is not, if by its name it might hold drawings.

    None: it is not taken for drawings, as a README.
    """
    lower = name.lower()
    stem = lower.strip(".")
    if lower.startswith("."):  # hidden; of those only our own downloads matter
        unfinished = lower.endswith(".part") and _holds_ending(stem)
        return "an unfinished download" if unfinished else None
    if is_folder:
        return "a folder" if _ends_as_drawings(stem) else None
    if lower.endswith(_UNFINISHED):
        return "an unfinished download" if _holds_ending(stem) else None
    if lower.endswith(".zip"):
        return "a zip file of many; give it by itself"
    if lower.endswith(_PACKED):
        return "packed in a way that is not read; unpack it"
    if lower.endswith(_OTHER_FORMS):
        by_word = clean_word(stem.rpartition(".")[0]) in challenge_words()
        usual = lower.endswith((".json", ".npy", ".npz", ".tfrecord", ".parquet"))
        return "another form than those read" if by_word or usual else None
    return "another ending than those read" if _holds_ending(stem) else None


def _ends_as_drawings(name: str) -> bool:
    plain = name.removesuffix(".gz").removesuffix(".zip")
    return plain.endswith(tuple(ENDINGS)) and not plain.startswith(".")


def _holds_ending(name: str) -> bool:
    """Whether a known ending stands somewhere in a name: `cat.csv.bak`, `cat.csv~`."""
    return any(ending in name for ending in ENDINGS)
