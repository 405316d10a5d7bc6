"""The configuration of an export."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from quickdraw_core.inference.config import HeldOutConfig


class ExportConfig(HeldOutConfig):
    """Which model becomes a bundle, where, and in which form.

    The options on held-out drawings are of `quantize`, which is judged on them.
    """

    models: tuple[str, ...] = Field(
        min_length=1,
        description="checkpoint files, run folders, MLflow run ids or registered models; several "
        "guess together",
    )
    out: Path = Field(description="folder of the bundle")
    name: str | None = Field(
        None, description="the bundle's name; none: the run's folder, or NAME@3 of the registry"
    )
    average: int = Field(
        1, ge=1, description="latest checkpoints of the run folder whose mean weights are exported"
    )
    evaluation: Path | None = Field(
        None,
        description="folder of the model's evaluation; none: in the run's folder or MLflow run",
    )
    quantize: Literal["int8"] | None = Field(
        None, description="int8: integers of 8 bits, if the held-out drawings allow it"
    )
