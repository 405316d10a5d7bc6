"""Options of loading: which drawings, how far they are changed, and how batches are cut."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.storage.location import Location


class FoldConfig(Config):
    """All drawings but those of one fold (`store.holdout.fold_of`)."""

    of: int = Field(ge=2, le=64, description="folds that all drawings are divided into")
    left_out: int = Field(ge=0, description="number of the fold that is left out, from 0")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.left_out >= self.of:
            raise ValueError(f"fold {self.left_out} of {self.of}; they are numbered from 0")
        return self


class SelectConfig(Config):
    """Which drawings, and how often those of each class. The default: all, as they are."""

    recognized_only: bool = Field(
        False, description="only drawings that Google's game recognised when they were made"
    )
    classes: tuple[str, ...] | None = Field(
        None, description="only these words, with spaces or underscores; default: all"
    )
    per_class: int | None = Field(
        None,
        ge=1,
        description="drawings of a class at most; a larger number adds to a smaller one",
    )
    class_balance: float = Field(
        0,
        ge=0,
        le=1,
        description="0: classes come as often as they are stored; 1: all equally often",
    )
    exclude: Path | None = Field(
        None,
        description="Parquet file of drawings not to train on, by key_id, as quickdraw audit "
        "writes it; validation and test drawings stay",
    )
    exclude_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 that the file must have; recorded in the run folder",
    )
    fold: FoldConfig | None = Field(
        None, description="a fold that is neither trained nor validated on, for quickdraw audit"
    )
    also: Location | None = Field(
        None,
        description="folder or address of a second store, whose train drawings are learnt from as "
        "well, such as one of pseudo-labels; validation and test drawings are those of the first",
    )
    also_fingerprint: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="fingerprint that the second store must have; recorded in the run folder",
    )

    @model_validator(mode="after")
    def _digests_are_of_something(self) -> Self:
        for name, digest in (("exclude", "exclude_sha256"), ("also", "also_fingerprint")):
            if getattr(self, name) is None and getattr(self, digest) is not None:
                raise ConfigError(
                    f"select.{digest} is given without select.{name}, which it is the digest of; "
                    "give both, or neither"
                )
        return self

    def absolute(self) -> Self:
        """With paths that mean the same from any working folder."""
        exclude = self.exclude and self.exclude.absolute()
        also = self.also and self.also.absolute()
        return self.model_copy(update={"exclude": exclude, "also": also})


class AugmentConfig(Config):
    """How far a drawing may be changed. All zero: it is only moved."""

    rotation_degrees: float = Field(12, ge=0, le=180, description="largest turn either way")
    stretch: float = Field(0.15, ge=0, lt=0.9, description="largest change of width and height")
    shear: float = Field(0.15, ge=0, lt=1, description="largest slant, x shift a unit of y")
    shrink: float = Field(0.2, ge=0, lt=0.9, description="largest loss of size after fitting")
    mirror_share: float = Field(0.5, ge=0, le=1, description="share of drawings mirrored")
    stroke_drop_share: float = Field(
        0, ge=0, lt=1, description="share of strokes left out; at least one of a drawing stays"
    )
    point_noise: float = Field(
        0, ge=0, le=64, description="largest shift of a point each way, in 255ths of the square"
    )
    partial_share: float = Field(
        0,
        ge=0,
        le=1,
        description="share of drawings whose last strokes are left out, as many as come; the "
        "first stroke stays",
    )
    stroke_rotation_degrees: float = Field(
        0, ge=0, le=90, description="largest turn of a stroke by itself, either way"
    )
    stroke_stretch: float = Field(
        0, ge=0, lt=0.9, description="largest change of a stroke's size by itself"
    )
    stroke_shift: float = Field(
        0, ge=0, le=64, description="largest shift of a stroke by itself, in 255ths of the square"
    )
    warp: float = Field(
        0,
        ge=0,
        le=64,
        description="largest shift by a smooth bend of the whole, in 255ths of the square",
    )

    @property
    def bends(self) -> bool:
        """Whether strokes are changed by themselves, or the whole is bent."""
        strokes = (self.stroke_rotation_degrees, self.stroke_stretch, self.stroke_shift)
        return any((*strokes, self.warp))


@dataclass(frozen=True)
class BatchShape:
    """How a global batch is cut. Checked once, for all ranks alike."""

    global_batch_size: int
    micro_batch_size: int
    world_size: int

    def __post_init__(self) -> None:
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is no multiple of "
                f"micro_batch_size {self.micro_batch_size}; choose one that is"
            )
        if self.micro_batches % self.world_size:
            raise ConfigError(
                f"{self.micro_batches} micro-batches a step (global_batch_size "
                f"{self.global_batch_size} / micro_batch_size {self.micro_batch_size}) cannot be "
                f"shared out evenly to {self.world_size} ranks (--nnodes × --nproc); "
                f"{self._remedy}"
            )

    @property
    def _remedy(self) -> str:
        """What to do about a number of ranks that does not fit."""
        of_rank, rest = divmod(self.global_batch_size, self.world_size)
        if rest:
            return f"choose a multiple of {self.world_size}: --set global_batch_size=…"
        sizes = range(1, min(of_rank, self.micro_batch_size) + 1)
        largest = max(size for size in sizes if of_rank % size == 0)
        return f"choose smaller ones: --set micro_batch_size={largest}"

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a global batch."""
        return self.global_batch_size // self.micro_batch_size

    @property
    def micro_batches_a_rank(self) -> int:
        """Micro-batches that each rank computes in a step."""
        return self.micro_batches // self.world_size
