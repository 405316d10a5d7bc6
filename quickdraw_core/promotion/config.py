"""The promotion's configuration. Apart from `promote.py`, which loads torch."""

from typing import Annotated

from pydantic import AfterValidator, Field

from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.tracking.registry import check_alias, check_name


class PromoteConfig(HeldOutConfig):
    """Which model is to become the champion, on what it is judged, and by how much."""

    model: str | None = Field(
        None,
        description="checkpoint file, run folder, MLflow run id or registered model; a pipeline "
        "fills it in",
    )
    name: Annotated[str, AfterValidator(check_name)] = Field(
        "quickdraw", description="registered model in MLflow"
    )
    alias: Annotated[str, AfterValidator(check_alias)] = Field(
        "champion", description="alias in MLflow's registry that the best version holds"
    )
    margin: float = Field(
        0.0, ge=0, lt=1, description="MAP@3 by which the challenger must be better, beyond noise"
    )
    dry_run: bool = Field(False, description="decide and say so, and write nothing")
