"""Distillation: a training learns from what trained models guess, its teachers, beside the words.

The loss is (1 − share) · L + share · D: L is that of the words (`LOSSES`), D the cross entropy
between what the teachers guess together and what the network does (`loss_functions.distillation`).
Hinton et al., "Distilling the knowledge in a neural network", 2015. The teachers guess the very
images that the network is given, changed as they are, at each step: Beyer et al., "Knowledge
distillation: a good teacher is patient and consistent", 2022.
"""

import hashlib
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.system.files import cause_of, open_atomic
from quickdraw_core.training.checkpoint import find_checkpoint

TEACHERS_NAME = "teachers"
"""Of the folder in a run folder that holds copies of them."""
_PIECE_BYTES = 1 << 20


class DistillConfig(Config):
    """From which trained models a training learns as well, and how much it heeds them."""

    teachers: tuple[Path, ...] = Field(
        min_length=1,
        description="checkpoints, or run folders, whose best one is taken: models of the same "
        "words and images; several guess together",
    )
    teachers_sha256: tuple[str, ...] | None = Field(
        None, description="SHA-256 that their files must have; recorded in the run folder"
    )
    share: float = Field(
        0.5, gt=0, le=1, description="weight of their guesses in the loss; the rest is the word's"
    )
    other_store: bool = Field(
        False,
        description="take teachers of another store, which may have learned drawings that are "
        "held out in this one",
    )

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    def recorded(self) -> Self:
        """With paths that mean the same from any working folder, and the digests of the files.
        Raises `ConfigError` if one cannot be read.
        """
        paths = tuple(path.absolute() for path in self.teachers)
        digests = {"teachers": paths, "teachers_sha256": teachers_sha256(self)}
        return self.model_copy(update=digests)


def teacher_files(distill: DistillConfig) -> list[Path]:
    """The checkpoint of each teacher. Raises `ConfigError` if there is none."""
    files = []
    for path in distill.teachers:
        file = find_checkpoint(path, "best") if path.is_dir() else path
        if file is None or not file.is_file():
            raise ConfigError(
                f"no checkpoint of the teacher {path} (distill.teachers); give a .pt file, or a "
                "run folder that has a best one; a run that was begun with it has a copy in its "
                f"folder {TEACHERS_NAME}"
            )
        files.append(file)
    return files


def teachers_sha256(distill: DistillConfig | None) -> tuple[str, ...] | None:
    """SHA-256 of each teacher's file: as recorded, else of the files as they are now; None without
    teachers. Raises `ConfigError` if one cannot be read.
    """
    if distill is None or distill.teachers_sha256 is not None:
        return None if distill is None else distill.teachers_sha256
    return tuple(_digest_of(file) for file in teacher_files(distill))


def require_recorded(distill: DistillConfig) -> None:
    """Raises `ConfigError` if the teachers' files are not those of `teachers_sha256`."""
    now = tuple(_digest_of(file) for file in teacher_files(distill))
    if distill.teachers_sha256 not in (None, now):
        raise ConfigError(
            "the teachers are not the files that distill.teachers_sha256 names; give those files, "
            "or leave distill.teachers_sha256 out"
        )


def copy_teachers(distill: DistillConfig | None, run_dir: Path) -> None:
    """Puts copies of the teachers into a run folder, which all hosts of a run share, and removes
    others. A copy that is there already is left as it is.

    distill: as `recorded` gives it. Raises `CheckpointError` if a teacher has changed since.
    """
    copies = copied_teachers(distill, run_dir)
    if distill is not None and not _are_whole(copies, distill):
        for file, copy, digest in zip(
            teacher_files(distill), copies, distill.teachers_sha256 or (), strict=True
        ):
            _copy(file, copy, digest)
    for other in {*(run_dir / TEACHERS_NAME).glob("*")} - {*copies}:
        other.unlink()


def copied_teachers(distill: DistillConfig | None, run_dir: Path) -> list[Path]:
    """The copies, in the order of the teachers; none without teachers."""
    number = 0 if distill is None else len(distill.teachers)
    return [run_dir / TEACHERS_NAME / f"{each}.pt" for each in range(number)]


def _are_whole(copies: list[Path], distill: DistillConfig) -> bool:
    is_there = all(copy.is_file() for copy in copies)
    return is_there and tuple(_digest_of(copy) for copy in copies) == distill.teachers_sha256


def _copy(file: Path, copy: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with file.open("rb") as source, open_atomic(copy) as target:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
        if digest.hexdigest() != sha256:
            raise CheckpointError(
                f"the teacher {file} was written again since this training was prepared; give "
                "the same command again, once nothing writes there"
            )


def _digest_of(file: Path) -> str:
    try:
        return _sha256_of(file, LocalStorage(file.parent).version(file.name))
    except OSError as error:
        raise ConfigError(f"cannot read the teacher {file}: {cause_of(error)}") from error


@lru_cache(maxsize=64)
def _sha256_of(file: Path, version: Hashable) -> str:
    """version: of the file now, so that another one is read again."""
    return LocalStorage(file.parent).sha256(file.name)
