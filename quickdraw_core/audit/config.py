"""The audit's configuration."""

from pathlib import Path
from typing import Any

from pydantic import Field

from quickdraw_core.config import Config
from quickdraw_core.storage.location import Location


class AuditConfig(Config):
    """Which store to audit, by which trainings, and where the result goes."""

    store: Location = Field(Path("store"), description="folder or address of the store to audit")
    folds: int = Field(
        4, ge=2, le=64, description="trainings; each scores the drawings that it leaves out"
    )
    recipe: str = Field("audit", description="recipe of the trainings")
    per_class: int | None = Field(
        None,
        ge=1,
        description="drawings of a class that each training takes, at most; default: the recipe's",
    )
    changes: dict[str, Any] = Field({}, description="options of TrainConfig to set in all folds")
    gallery: int = Field(24, ge=1, description="drawings of a class on the page, at most")
    out_dir: Path | None = Field(
        None, description="folder of page, mask and trainings; default: runs/audit-<digest>"
    )
    fresh: bool = Field(False, description="start over if the folder holds an audit")
