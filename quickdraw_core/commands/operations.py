"""The command for whoever runs this as a service: deployments on a Prefect server."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import DryRun, config_of, configured_by
from quickdraw_core.errors import UnreachableError
from quickdraw_core.terminal.console import show_facts, show_lines, show_table

if TYPE_CHECKING:
    from flows.deployments.config import DeployConfig
    from flows.deployments.deploy import Deployed


@configured_by("flows.deployments.config:DeployConfig")
def deploy(
    pool: Annotated[str | None, typer.Option(envvar="QUICKDRAW_POOL")] = None,
    gpu_pool: Annotated[str | None, typer.Option(envvar="QUICKDRAW_GPU_POOL")] = None,
    gpus: Annotated[int | None, typer.Option(envvar="QUICKDRAW_GPUS")] = None,
    cron: Annotated[str | None, typer.Option(envvar="QUICKDRAW_CRON")] = None,
    timezone: Annotated[str | None, typer.Option(envvar="QUICKDRAW_TIMEZONE")] = None,
    home: Annotated[Path | None, typer.Option(envvar="QUICKDRAW_HOME")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="QUICKDRAW_SOURCE",
            help="What pipeline/nightly and ingest read, with commas between.",
        ),
    ] = None,
    dask: Annotated[str | None, typer.Option(envvar="QUICKDRAW_DASK")] = None,
    file: Annotated[Path | None, typer.Option()] = None,
    alert: Annotated[
        list[str] | None,
        typer.Option(
            envvar="QUICKDRAW_ALERT",
            metavar="ADDRESS",
            help="Send alerts there: mailto://…, slack://…, https://… of a web hook.",
        ),
    ] = None,
    no_alert: Annotated[bool | None, typer.Option("--no-alert")] = None,
    alert_test: Annotated[bool | None, typer.Option("--alert-test")] = None,
    dry_run: DryRun = None,
) -> None:
    """Make the pools, GPU slots, automation and deployments on the Prefect server."""
    # An empty variable, as of a compose file, counts as not set.
    options = {name: None if value == "" else value for name, value in locals().items()}
    from pydantic import SecretStr

    from flows.deployments.config import DeployConfig
    from flows.deployments.deploy import deploy as make

    if source:
        options["source"] = tuple(part.strip() for part in source.split(","))
    if no_alert and alert == os.environ.get("QUICKDRAW_ALERT", "").split():
        alert = None  # an option that was given wins over a variable
    # Not as text, which a configuration would show.
    options["alert"] = tuple(SecretStr(address) for address in alert or () if address)
    config = config_of(DeployConfig, options)
    _show_deployed(config, make(config))
    if not config.dry_run:
        _show_alerts(config)
        if config.alert_test:
            _try_alerts()


def _show_deployed(config: "DeployConfig", deployed: Sequence["Deployed"]) -> None:
    rows = [[entry.name, entry.pool, entry.schedule or "on demand"] for entry in deployed]
    show_table(["deployment", "work pool", "runs"], rows, numbers=False)
    show_lines(
        [f"{entry.name} next: {', '.join(entry.upcoming)}" for entry in deployed if entry.upcoming]
    )
    if config.dry_run:
        show_lines(["dry run: nothing was made"])
        return
    show_facts(
        {
            "GPU slots": f"{config.gpus} (global concurrency limit gpu)",
            "worker": f"prefect worker start --pool {config.pool}",
            "run one": f"prefect deployment run {deployed[0].name}",
        }
    )


def _show_alerts(config: "DeployConfig") -> None:
    if config.alert:
        from flows.alerts.addresses import address_of

        services = [address_of(address).service for address in config.alert]
        show_facts({"alerts": f"of failed, crashed and late runs go to {', '.join(services)}"})
    elif config.no_alert:
        show_facts({"alerts": "deleted, with their addresses"})


def _try_alerts() -> None:
    """Sends a message to each address of the alerts. Raises `UnreachableError` if one fails."""
    from flows.alerts.trial import try_alerts
    from flows.server import answering

    with answering():
        outcomes = try_alerts()
    for number, why in enumerate(outcomes, 1):
        show_facts({f"alert {number}": f"not sent: {why}" if why else "the server sent a message"})
    if any(outcomes):
        raise UnreachableError(
            "not every alert could be sent; Prefect's server sends them: it must reach the "
            "address, and the address must be right (give all again with --alert)"
        )
