"""Distillation: a training learns from what trained models guess, its teachers, beside the words.

The loss is (1 − share) · L + share · D: L is that of the words (`LOSSES`), D the cross entropy
between what the teachers guess together and what the network does (`loss_functions.distillation`).
Hinton et al., "Distilling the knowledge in a neural network", 2015. The teachers guess the very
images that the network is given, changed as they are, at each step: Beyer et al., "Knowledge
distillation: a good teacher is patient and consistent", 2022.
"""

import shutil
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.system.files import open_atomic
from quickdraw_core.training.checkpoint import find_checkpoint

TEACHERS_NAME = "teachers"
"""Of the folder in a run folder that holds copies of them."""


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

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    def absolute(self) -> Self:
        """With paths that mean the same from any working folder."""
        return self.model_copy(update={"teachers": tuple(p.absolute() for p in self.teachers)})


def teacher_files(distill: DistillConfig) -> list[Path]:
    """The checkpoint of each teacher. Raises `ConfigError` if there is none."""
    files = []
    for path in distill.teachers:
        file = find_checkpoint(path, "best") if path.is_dir() else path
        if file is None or not file.is_file():
            raise ConfigError(
                f"no checkpoint of the teacher {path} (distill.teachers); give a .pt file, or a "
                "run folder that has a best one"
            )
        files.append(file)
    return files


def teachers_sha256(distill: DistillConfig | None) -> tuple[str, ...] | None:
    """SHA-256 of each teacher's file: as recorded, else of the files as they are now; None without
    teachers. Raises `ConfigError` if one cannot be read.
    """
    if distill is None or distill.teachers_sha256 is not None:
        return None if distill is None else distill.teachers_sha256
    digests = []
    for file in teacher_files(distill):
        try:
            digests.append(_sha256_of(file, LocalStorage(file.parent).version(file.name)))
        except OSError as error:
            raise ConfigError(f"cannot read the teacher {file}: {error.strerror}") from error
    return tuple(digests)


def require_recorded(distill: DistillConfig) -> None:
    """Raises `ConfigError` if the teachers' files are not those of `teachers_sha256`."""
    now = teachers_sha256(distill.model_copy(update={"teachers_sha256": None}))
    if distill.teachers_sha256 not in (None, now):
        raise ConfigError(
            "the teachers are not the files that distill.teachers_sha256 names; give those files, "
            "or leave distill.teachers_sha256 out"
        )


def copy_teachers(distill: DistillConfig, run_dir: Path) -> None:
    """Puts copies of the teachers into a run folder, so that its run goes on whatever becomes of
    theirs.
    """
    for number, file in enumerate(teacher_files(distill)):
        with file.open("rb") as source, open_atomic(_copy(run_dir, number), sync=False) as target:
            shutil.copyfileobj(source, target)


def copied_teachers(distill: DistillConfig | None, run_dir: Path) -> list[Path]:
    """The copies, in the order of the teachers; none without teachers."""
    number = 0 if distill is None else len(distill.teachers)
    return [_copy(run_dir, each) for each in range(number)]


def _copy(run_dir: Path, number: int) -> Path:
    return run_dir / TEACHERS_NAME / f"{number}.pt"


@lru_cache(maxsize=64)
def _sha256_of(file: Path, version: Hashable) -> str:
    """version: of the file now, so that another one is read again."""
    return LocalStorage(file.parent).sha256(file.name)
