"""Names that look like files of drawings and are not read, and why: so that no class is left out
without a word. Pure.
"""

from quickdraw_core.formats.detect import ENDINGS
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import clean_word

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


def why_unread(name: str, is_folder: bool = False) -> str | None:
    """Why a file or folder that is not read is not, if by its name it might hold drawings.

    None: nobody takes it for drawings, as a README.
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
