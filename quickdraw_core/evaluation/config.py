"""The configurations of evaluation and comparison, and the command line of the former."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.options import Precision


class EvaluateConfig(HeldOutConfig, ClusterConfig):
    """Which model to judge, on what, and where the report goes."""

    model: str | None = Field(
        None,
        description="checkpoint file, run folder, MLflow run id or registered model; a pipeline "
        "fills it in",
    )
    ensemble: tuple[str, ...] = Field(
        (), description="further models; what is judged is the mean of all their probabilities"
    )
    average: int = Field(
        1, ge=1, description="how many of the run folder's latest checkpoints to average"
    )
    guesses: int = Field(64, ge=0, description="drawings in the printed table of guesses")
    partial_per_class: int = Field(
        10,
        ge=0,
        description="held-out drawings a class that are also judged after their first strokes, as "
        "the game guesses while one draws; 0: none",
    )
    report_dir: Path | None = Field(
        None, description="folder of the report; default: evaluation/ in the run's folder"
    )
    json_file: Path | None = Field(
        None, description="file to write all numbers to as well, as JSON; - is standard output"
    )

    @model_validator(mode="after")
    def _predicts_in_one_place(self) -> Self:
        if self.dask is not None and self.ranks is not None:
            raise ValueError(
                f"ranks={self.ranks} is for processes of this host, and Dask's workers are to "
                "predict; leave out one of them"
            )
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """All models that are judged together."""
        return (*((self.model,) if self.model is not None else ()), *self.ensemble)


class CompareConfig(HeldOutConfig):
    """Which models to compare, on what, and where the answer goes."""

    models: tuple[str, ...] = Field(
        min_length=2,
        description="checkpoint files, run folders, MLflow run ids, registered models, or folders "
        "of evaluations; all are compared with the first",
    )
    split: Literal["test", "validation"] = Field(
        "test",
        description="held-out drawings to compare on: test, or validation, which leaves the test "
        "drawings unseen while models are being chosen",
    )
    json_file: Path | None = Field(
        None, description="file to write all numbers to, as JSON; - is standard output"
    )
    out_dir: Path | None = Field(
        None, description="folder for a page as HTML and as Markdown, and figures"
    )
    why: bool = Field(
        False,
        description="list what differs between the trainings: options, code, data, environment, "
        "cost",
    )


def evaluate_command(config: EvaluateConfig, references: Sequence[str]) -> str:
    """The command line that makes an evaluation again, as typed where it was made.

    references: the models, by number if they had an alias, which may be another's tomorrow.
    """
    options: list[str] = ["--store", str(config.store), "--per-class", str(config.per_class)]
    options += ["--tta", config.tta] if config.tta != "none" else []
    options += ["--precision", config.precision] if config.precision != Precision.FP32 else []
    options += ["--average", str(config.average)] if config.average > 1 else []
    options += ["--allow-short"] if config.allow_short else []
    options += ["--other-store"] if config.other_store else []
    uri = config.tracking_uri or ""
    options += ["--tracking-uri", uri] if uri and "@" not in uri else []  # no password
    options += ["--set", f"seed={config.seed}"] if config.seed else []
    for name in ("guesses", "partial_per_class"):
        value = getattr(config, name)
        default = EvaluateConfig.model_fields[name].default
        options += ["--set", f"{name}={value}"] if value != default else []
    return shlex.join(["quickdraw", "evaluate", *references, *options])
