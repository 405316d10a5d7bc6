"""What a deployment is made with. Apart from `deploy.py`, so that the help of the command that
makes deployments need not load Prefect.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from quickdraw_core.config import Config
from quickdraw_core.redaction import HIDDEN

DEPLOYMENTS = Path(__file__).parents[2] / "infra" / "prefect.yaml"
CPU_POOL, GPU_POOL = "cpu", "gpu"


class DeployConfig(Config):
    """What differs from `infra/prefect.yaml`, and how much there is to share out."""

    file: Path = Field(DEPLOYMENTS, description="YAML file of the deployments")
    home: Path = Field(
        Path(), description="folder that runs work in, on the workers: paths are relative to it"
    )
    pool: str = Field(CPU_POOL, description="work pool of all runs that need no GPU")
    gpu_pool: str = Field(GPU_POOL, description="work pool of the runs that need GPUs")
    gpus: int = Field(1, ge=1, description="GPU slots of all hosts together")
    cron: str | None = Field(
        None, description="when pipeline/nightly runs, as '0 2 * * *'; default: as in the file"
    )
    timezone: str | None = Field(
        None, description="time zone of the schedules, as Europe/Berlin; default: as in the file"
    )
    source: tuple[str, ...] | None = Field(
        None, description="what pipeline/nightly and ingest read; default: as in the file"
    )
    dask: str | None = Field(
        None,
        description="Dask's scheduler for every ingest and for train/cluster, as "
        "tcp://host:8786; default: ingest is local, and train/cluster is not made",
    )
    alert: tuple[SecretStr, ...] = Field(
        (), description="where alerts go, each an Apprise address; default: as on the server"
    )
    no_alert: bool = Field(False, description="delete the alerts and their addresses")
    alert_test: bool = Field(False, description="send a message to the addresses of the alerts")
    dry_run: bool = Field(False, description="check and say what would be made, make nothing")

    @model_validator(mode="after")
    def _alerts_or_none(self) -> Self:
        if self.no_alert and (self.alert or self.alert_test):
            raise ValueError("no_alert deletes the alerts; leave out alert and alert_test")
        return self

    @field_validator("source")
    @classmethod
    def _needs_no_secret(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for source in value or ():
            if HIDDEN in source:
                raise ValueError(
                    f"{source} needs a secret, and a deployment's parameters are "
                    "for all to read on Prefect's server; download the files first, or use an "
                    "object store with credentials in the worker's environment"
                )
        return value
