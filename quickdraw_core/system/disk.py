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


@dataclass(frozen=True)
class Room:
    """A disk and all that is to go to it. folder: one on it that is there."""

    folder: Path
    needs: tuple[Need, ...]
    free_bytes: int

    @property
    def needed_bytes(self) -> int:
        """What all of it takes."""
        return sum(need.size_bytes for need in self.needs)

    @property
    def is_enough(self) -> bool:
        """Whether all of it fits."""
        return self.needed_bytes <= self.free_bytes

    @property
    def parts(self) -> str:
        """Each thing and its size, for people."""
        return ", ".join(f"{need.what} {decimal(need.size_bytes)}" for need in self.needs)

    @property
    def remedy(self) -> str:
        """What to do if it does not fit."""
        options = " or ".join(sorted({need.option for need in self.needs}))
        return f"make room, or give a folder on another disk with {options}"


def rooms_of(needs: Iterable[Need]) -> list[Room]:
    """One for each file system that something is to go to."""
    by_disk = {need: _existing(need.folder) for need in needs if need.size_bytes > 0}

    def disk_of(need: Need) -> int:
        return by_disk[need].stat().st_dev

    groups = (tuple(group) for _, group in groupby(sorted(by_disk, key=disk_of), key=disk_of))
    return [Room(by_disk[group[0]], group, free_bytes(by_disk[group[0]])) for group in groups]


def require_room(needs: Iterable[Need]) -> None:
    """Raises `ConfigError` if a file system has less room than all that is to go there needs."""
    for room in rooms_of(needs):
        if not room.is_enough:
            raise ConfigError(
                f"the disk of {room.folder} has {decimal(room.free_bytes)} free, and about "
                f"{decimal(room.needed_bytes)} are needed ({room.parts}); {room.remedy}"
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
