"""Commands that judge models against each other: comparing them, and promoting one."""

from pathlib import Path
from typing import Annotated

import typer

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.commands.options import (
    AllowShort,
    OtherStore,
    PerClass,
    PrecisionOption,
    Prefect,
    Processes,
    Set,
    StoreOption,
    Tracking,
    Tta,
)
from quickdraw_core.commands.running import run_stage
from quickdraw_core.terminal.console import leave_stdout_to, show_facts, show_lines, show_table
from quickdraw_core.terminal.summaries import compare_facts, promote_facts

_WORDS = 20
"""Words that changed, in the printed table; --out and --json have all."""


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: checkpoint, run folder, MLflow run id, models:/NAME@ALIAS or the "
            "folder of an evaluation; all are compared with the first."
        ),
    ],
    store: StoreOption = "store",
    per_class: PerClass = 100,
    tta: Tta = "none",
    precision: PrecisionOption = "fp32",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file, or to -.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for a page in Markdown and figures.")
    ] = None,
    allow_short: AllowShort = False,
    other_store: OtherStore = False,
    nproc: Processes = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Say which model is better, by how much, and whether that can be told from noise."""
    from quickdraw_core.evaluation.compare import COMPARE_STAGE, CompareConfig
    from quickdraw_core.metrics.comparison_text import class_table, difference_table, sentences

    config = CompareConfig.parse(
        {
            "models": tuple(models),
            "store": store,
            "per_class": per_class,
            "tta": tta,
            "precision": precision,
            "json_file": json_file,
            "out_dir": out_dir,
            "allow_short": allow_short,
            "other_store": other_store,
            "ranks": nproc,
            "tracking_uri": tracking_uri,
        }
    ).updated(parse_assignments(changes or ()))
    leave_stdout_to(config.json_file)
    result = run_stage(COMPARE_STAGE, config, prefect)
    for comparison in result.comparisons:
        show_table(*difference_table(comparison))
        if comparison.changed:
            show_table(*class_table(comparison, _WORDS))
        show_lines(sentences(comparison))
    show_facts(compare_facts(result))


def promote(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run folder, MLflow run id or models:/NAME/3.")
    ],
    store: StoreOption = "store",
    name: Annotated[str, typer.Option(help="Registered model in MLflow.")] = "quickdraw",
    alias: Annotated[str, typer.Option(help="Alias that the best version holds.")] = "champion",
    margin: Annotated[
        float, typer.Option(min=0, help="MAP@3 by which it must be better, beyond noise.")
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide and say so, and write nothing.")
    ] = False,
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 1 where the model is not promoted.")
    ] = False,
    per_class: PerClass = 100,
    tta: Tta = "none",
    precision: PrecisionOption = "fp32",
    allow_short: AllowShort = False,
    other_store: OtherStore = False,
    nproc: Processes = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Make a model the champion if it is better than the present one by more than the noise."""
    from quickdraw_core.promotion.decision import Decision
    from quickdraw_core.promotion.promote import PROMOTE_STAGE, PromoteConfig

    config = PromoteConfig.parse(
        {
            "model": model,
            "store": store,
            "name": name,
            "alias": alias,
            "margin": margin,
            "dry_run": dry_run,
            "per_class": per_class,
            "tta": tta,
            "precision": precision,
            "allow_short": allow_short,
            "other_store": other_store,
            "ranks": nproc,
            "tracking_uri": tracking_uri,
        }
    ).updated(parse_assignments(changes or ()))
    result = run_stage(PROMOTE_STAGE, config, prefect)
    show_facts(promote_facts(result))
    if require and result.decision == Decision.KEPT:
        raise typer.Exit(1)
