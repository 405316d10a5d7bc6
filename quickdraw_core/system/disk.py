"""Room on a disk: what work will need of it, and what is free."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.filesize import decimal

from quickdraw_core.errors import ConfigError


@dataclass(frozen=True)
class Need:
    """What one thing will take. what: its name; option: that which puts it elsewhere."""

    what: str
    size_bytes: int
    folder: Path
    option: str


def require_room(needs: Iterable[Need]) -> None:
    """Raises `ConfigError` if a file system has less room than all that is to go there needs."""
    by_disk = {need: _existing(need.folder) for need in needs if need.size_bytes > 0}
    ordered = sorted(by_disk, key=lambda need: by_disk[need].stat().st_dev)
    for _, group in groupby(ordered, key=lambda need: by_disk[need].stat().st_dev):
        together = list(group)
        folder = by_disk[together[0]]
        needed, free = sum(need.size_bytes for need in together), free_bytes(folder)
        if needed <= free:
            continue
        parts = ", ".join(f"{need.what} {decimal(need.size_bytes)}" for need in together)
        options = " or ".join(sorted({need.option for need in together}))
        raise ConfigError(
            f"the disk of {folder} has {decimal(free)} free, and about {decimal(needed)} are "
            f"needed ({parts}); make room, or give a folder on another disk with {options}"
        )


def free_bytes(folder: Path) -> int:
    """What this user may still write to the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def size_of_files(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it is missing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # renamed or deleted meanwhile
                total += Path(parent, name).lstat().st_size
    return total


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
