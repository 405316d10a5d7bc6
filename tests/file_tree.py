"""The files of a folder, to compare folders by."""

from pathlib import Path

from quickdraw_core.store.store import sha256_of


def tree(folder: Path) -> dict[str, str]:
    """The files of a folder: relative path → SHA-256."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
