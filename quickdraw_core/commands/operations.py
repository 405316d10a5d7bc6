"""Commands for whoever runs this as a service: deployments on a Prefect server, and reruns."""

from pathlib import Path
from typing import Annotated

import typer

from quickdraw_core.commands.options import DryRun, config_of, configured_by
from quickdraw_core.commands.running import going_on_said, run_flow
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import show_facts, show_lines, show_table


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
    dry_run: DryRun = None,
) -> None:
    """Make the pools, GPU slots, automation and deployments on the Prefect server."""
    # An empty variable, as of a compose file, counts as not set.
    options = {name: None if value == "" else value for name, value in locals().items()}
    if source:
        options["source"] = tuple(part.strip() for part in source.split(","))
    from flows.deployments.config import DeployConfig
    from flows.deployments.deploy import deploy as make

    config = config_of(DeployConfig, options)
    deployed = make(config)
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


def rerun(
    reference: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id or name of a Prefect flow run.")
    ] = None,
    last_failed: Annotated[
        bool, typer.Option("--last-failed", help="The last run that did not complete.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow a deployment's run to its end.")
    ] = False,
) -> None:
    """Run a flow run again: what is finished is skipped, the rest continues."""
    if (reference is None) != last_failed:
        raise ConfigError("give a RUN, or --last-failed for the last one that did not complete")
    from quickdraw_core.stage import Opened

    with going_on_said():
        run_flow(lambda: _rerun(reference, watch), Opened())


def _rerun(reference: str | None, watch: bool) -> None:
    from flows.reruns.again import find_run, folder_of, follow, run_again, schedule_again

    run = find_run(reference)
    if run.deployment_id is None:
        show_facts({"run": f"{run.name} ({run.id}), in this process, in {folder_of(run)}"})
        run_again(run)
        show_facts({"done": "completed"})
        return
    schedule_again(run)
    show_facts({"run": f"{run.name} ({run.id}) is scheduled again; a worker takes it up"})
    if watch:
        state = follow(run)
        show_facts({"done": state})
        if state != "Completed":
            raise typer.Exit(1)
