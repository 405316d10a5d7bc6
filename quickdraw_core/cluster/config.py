"""How a Dask cluster is named, and what its workers must have."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from quickdraw_core.config import Config
from quickdraw_core.redaction import HIDDEN

GPU = "GPU"
"""The resource of Dask that workers with GPUs have, by custom: `--resources GPU=2`."""


class DaskTls(Config):
    """What shows a Dask cluster who we are, and us that it is ours: files in PEM form."""

    ca_file: Path = Field(
        description="file with the certificate of the authority that signed the cluster's and ours"
    )
    certificate: Path = Field(description="file with the certificate of this client")
    key: Path | None = Field(
        None, description="file with its private key, not encrypted; default: in `certificate`"
    )


def check_address(address: str, *other: str) -> None:
    """Refuses what is neither the address of a scheduler nor one of the `other` values.

    Raises `ValueError`, as the validators of a configuration do.
    """
    if address not in other and "://" not in address:
        values = ", ".join(other)
        raise ValueError(
            f"must be {values}{' or ' if other else ''}an address such as tcp://scheduler:8786"
        )
    if HIDDEN in address:
        raise ValueError("holds a password, which Dask does not have; use tls://, with --set tls")


def check_tls_has_a_use(tls: DaskTls | None, dask: str | None) -> None:
    """Refuses certificates without a scheduler that asks for them. Raises `ValueError`."""
    if tls is not None and (dask is None or not dask.startswith("tls://")):
        raise ValueError(
            f"certificates are for a tls:// scheduler, and dask is {dask}; give its address "
            "as tls://host:8786, or leave them out"
        )


class ClusterConfig(Config):
    """The Dask cluster whose workers do the work, if any."""

    dask: str | None = Field(
        None,
        description="Dask scheduler on whose workers it runs, tcp://host:8786, or tls://host:8786 "
        "with tls; default: here",
    )
    tls: DaskTls | None = Field(
        None,
        description="certificates for a tls:// scheduler; default: those of Dask's own options",
    )
    require: str | None = Field(
        None,
        description="resources that a worker must have, as GPU=1 or GPU=2,BIGMEM=1; default: "
        "none, or a GPU for each process that works on one",
    )

    @field_validator("dask")
    @classmethod
    def _dask_has_a_form(cls, value: str | None) -> str | None:
        if value is not None:
            check_address(value)
        return value

    @field_validator("require")
    @classmethod
    def _resources_have_a_form(cls, value: str | None) -> str | None:
        parse_resources(value)
        return value

    @model_validator(mode="after")
    def _needs_a_scheduler(self) -> Self:
        check_tls_has_a_use(self.tls, self.dask)
        if self.require is not None and self.dask is None:
            raise ValueError(
                "require is of Dask's workers, and no scheduler is given: dask=tcp://…"
            )
        return self

    @property
    def resources(self) -> dict[str, float]:
        """`require`, parsed."""
        return parse_resources(self.require)


def parse_resources(text: str | None) -> dict[str, float]:
    """`GPU=2,BIGMEM=1` as a mapping. Raises `ValueError` for another form."""
    resources = {}
    for part in text.split(",") if text is not None else ():
        name, _, amount = part.partition("=")
        try:
            resources[name.strip()] = float(amount)
        except ValueError:
            resources[name.strip()] = 0.0
        if not name.strip() or not 0 < resources[name.strip()] < float("inf"):
            raise ValueError("must be names with amounts above 0, as GPU=1 or GPU=2,BIGMEM=1")
    return resources
