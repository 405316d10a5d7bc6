"""The command of sweeps: a table of trainings, compared."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.assignments import merged, parse_assignments
from quickdraw_core.commands.launched import going_on, started_once
from quickdraw_core.commands.options import (
    AllowShort,
    Dask,
    Fresh,
    Nproc,
    PerClass,
    Prefect,
    RunDir,
    Set,
    StoreOption,
    Tracking,
    comma_separated,
    config_of,
    configured_by,
)
from quickdraw_core.commands.running import flow_of, run
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import show_facts, show_lines, show_table

if TYPE_CHECKING:
    from quickdraw_core.sweep.results import SweepResult


@configured_by("quickdraw_core.sweep.config:SweepConfig")
def sweep(
    table: Annotated[
        str | None, typer.Argument(help="A built-in table's name, or a TOML file.")
    ] = None,
    store: StoreOption = None,
    per_class: PerClass = None,
    allow_short: AllowShort = None,
    rows: Annotated[
        list[str] | None, typer.Option("--rows", help="Rows to train, with commas between.")
    ] = None,
    parallel: Annotated[int | None, typer.Option()] = None,
    nproc: Nproc = None,
    dask: Dask = None,
    run_dir: RunDir = None,
    fresh: Fresh = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the built-in tables.")] = False,
) -> None:
    """Train, judge and compare the rows of a table; again trains only what is missing."""
    if show_list:
        _show_tables()
        return
    if table is None:
        raise ConfigError("no table to sweep: give a name (quickdraw sweep --list) or a TOML file")
    from quickdraw_core.stage import Opened
    from quickdraw_core.sweep.config import SweepConfig
    from quickdraw_core.sweep.results import SweepError
    from quickdraw_core.sweep.run import prepare

    launched = started_once("a sweep")
    of_rows = merged(
        {"hardware": {"ranks": nproc}} if nproc else {}, parse_assignments(changes or ())
    )
    # --set is for the rows, but for what none of them has: how a cluster is reached.
    of_cluster = {name: of_rows.pop(name) for name in ("tls", "require") if name in of_rows}
    names = comma_separated(rows, "--rows")
    config = config_of(SweepConfig, locals() | of_cluster | {"rows": names, "changes": of_rows})
    opened = Opened()
    prepared = prepare(config, opened)
    config = going_on(launched, config, prepared.is_begun_by)
    prepared = replace(prepared, config=config)
    try:
        result = run(prepared.run, lambda: flow_of("sweep")(config), opened, prefect)
    except SweepError as error:
        _show_swept(error.result)
        raise
    _show_swept(result)


def _show_swept(result: "SweepResult") -> None:
    from quickdraw_core.sweep.summary import (
        curve_lines,
        order_lines,
        prediction_table,
        result_table,
        sweep_facts,
    )

    show_table(*result_table(result, settings=False), numbers=False)
    show_lines(order_lines(result))
    heads, predicted = prediction_table(result)
    if predicted:
        show_table(heads, predicted, numbers=False)
    show_lines(curve_lines(result))
    show_facts(sweep_facts(result))


def _show_tables() -> None:
    from quickdraw_core.sweep.built_in_tables import TABLES
    from quickdraw_core.sweep.table import read_table

    for name in TABLES:
        table = read_table(name)
        show_facts({name: f"{len(table.rows)} rows. {table.description}"})
