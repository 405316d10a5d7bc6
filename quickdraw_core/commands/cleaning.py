"""The command that keeps the disk from filling."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import DryRun, Prefect, Tracking, config_of, configured_by
from quickdraw_core.commands.running import flow_of, run
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import show_facts, show_lines, show_table

if TYPE_CHECKING:
    from quickdraw_core.retention.clean import CleanResult


@configured_by("quickdraw_core.retention.config:CleanConfig")
def clean(
    runs: Annotated[Path | None, typer.Option()] = None,
    stores: Annotated[
        list[Path] | None,
        typer.Option("--store", help="Store whose packs may go, beside those of the runs."),
    ] = None,
    keep: Annotated[int | None, typer.Option()] = None,
    older_than: Annotated[str | None, typer.Option()] = None,
    tracking_uri: Tracking = None,
    dry_run: DryRun = None,
    prefect: Prefect = False,
) -> None:
    """Remove old runs, checkpoints, packs and kept results that nothing needs."""
    for folder in (*([runs] if runs is not None else ()), *(stores or ())):
        if not folder.is_dir():
            raise ConfigError(f"no folder {folder}; give the one that holds the runs, or a store")
    from flows.configured import results_folder
    from quickdraw_core.retention.clean import clean as clean_up
    from quickdraw_core.retention.clean import require_cleaned
    from quickdraw_core.retention.config import CleanConfig
    from quickdraw_core.stage import Opened

    config = config_of(CleanConfig, locals())
    config = config.updated({"results": results_folder()})
    result = run(lambda: clean_up(config), lambda: flow_of("clean")(config), Opened(), prefect)
    _show(result)
    require_cleaned(result)


def _show(result: "CleanResult") -> None:
    from quickdraw_core.retention.summary import clean_facts, clean_table

    if result.outcomes:
        show_table(*clean_table(result), numbers=False)
    show_facts(clean_facts(result))
    show_lines([f"problem: {problem}" for problem in result.problems])
