"""Commands that judge models against each other: comparing them, and promoting one."""

from pathlib import Path
from typing import Annotated

import typer

from quickdraw_core.commands.options import (
    AllowShort,
    DryRun,
    JsonFile,
    OtherStore,
    PerClass,
    PrecisionOption,
    Prefect,
    Processes,
    Set,
    StoreOption,
    Tracking,
    Tta,
    config_of,
    configured_by,
)
from quickdraw_core.commands.running import run_stage
from quickdraw_core.terminal.console import leave_stdout_to, show_facts, show_lines, show_table

_WORDS = 20
"""Words that changed, in the printed table; --out and --json have all."""


@configured_by("quickdraw_core.evaluation.config:CompareConfig")
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: checkpoint, run folder, MLflow run id, models:/NAME@ALIAS or the "
            "folder of an evaluation; all are compared with the first."
        ),
    ],
    store: StoreOption = None,
    split: Annotated[str | None, typer.Option("--split", metavar="test|validation")] = None,
    per_class: PerClass = None,
    tta: Tta = None,
    precision: PrecisionOption = None,
    json_file: JsonFile = None,
    out_dir: Annotated[Path | None, typer.Option("--out")] = None,
    why: Annotated[bool | None, typer.Option("--why")] = None,
    allow_short: AllowShort = None,
    other_store: OtherStore = None,
    ranks: Processes = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Say which model is better, by how much, and whether it is more than noise; with --why, what
    differs between their trainings.
    """
    from quickdraw_core.differences.text import why_lines, why_table
    from quickdraw_core.evaluation.compare import COMPARE_STAGE
    from quickdraw_core.evaluation.config import CompareConfig
    from quickdraw_core.evaluation.summary import compare_facts
    from quickdraw_core.metrics.comparison_text import class_table, difference_table, sentences

    config = config_of(CompareConfig, locals(), changes)
    leave_stdout_to(config.json_file)
    result = run_stage(COMPARE_STAGE, config, prefect)
    for comparison in result.comparisons:
        show_table(*difference_table(comparison))
        if comparison.changed:
            show_table(*class_table(comparison, _WORDS))
        show_lines(sentences(comparison))
    for answer in result.why:
        if answer.rows:
            show_table(*why_table(answer))
        show_lines(why_lines(answer))
    show_facts(compare_facts(result))


@configured_by("quickdraw_core.promotion.config:PromoteConfig")
def promote(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run folder, MLflow run id or models:/NAME/3.")
    ],
    store: StoreOption = None,
    name: Annotated[str | None, typer.Option()] = None,
    alias: Annotated[str | None, typer.Option()] = None,
    margin: Annotated[float | None, typer.Option()] = None,
    dry_run: DryRun = None,
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 1 if the model is not promoted.")
    ] = False,
    per_class: PerClass = None,
    tta: Tta = None,
    precision: PrecisionOption = None,
    allow_short: AllowShort = None,
    other_store: OtherStore = None,
    ranks: Processes = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Make a model the champion if it is better than the present one by more than the noise."""
    from quickdraw_core.promotion.config import PromoteConfig
    from quickdraw_core.promotion.decision import Decision
    from quickdraw_core.promotion.promote import PROMOTE_STAGE
    from quickdraw_core.promotion.summary import promote_facts

    config = config_of(PromoteConfig, locals(), changes)
    result = run_stage(PROMOTE_STAGE, config, prefect)
    show_facts(promote_facts(result))
    if require and result.decision == Decision.KEPT:
        raise typer.Exit(1)
