"""The command that finds drawings which do not fit their word."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.assignments import merged, parse_assignments
from quickdraw_core.commands.launched import going_on, started_once
from quickdraw_core.commands.options import (
    Fresh,
    Nproc,
    PerClass,
    Set,
    StoreArgument,
    config_of,
    configured_by,
)
from quickdraw_core.commands.running import going_on_said
from quickdraw_core.terminal.console import show_facts
from quickdraw_core.terminal.progress_display import show_progress

if TYPE_CHECKING:
    from quickdraw_core.audit.audit import PreparedAudit


@configured_by("quickdraw_core.audit.config:AuditConfig")
def audit(
    store: StoreArgument,
    folds: Annotated[int | None, typer.Option()] = None,
    recipe: Annotated[str | None, typer.Option("--recipe")] = None,
    per_class: PerClass = None,
    gallery: Annotated[int | None, typer.Option()] = None,
    nproc: Nproc = None,
    out_dir: Annotated[Path | None, typer.Option("--out")] = None,
    fresh: Fresh = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only say what it will take, by a probe of 21 steps."),
    ] = False,
    changes: Set = None,
) -> None:
    """Find drawings with the wrong word, scribbles and near-duplicates: a page to look at, and a
    mask to train without them. The same command continues a stopped audit.
    """
    from quickdraw_core.audit.audit import AUDIT_STAGE, PreparedAudit
    from quickdraw_core.audit.config import AuditConfig
    from quickdraw_core.audit.summary import audit_facts
    from quickdraw_core.stage import Opened, perform

    launched = started_once("an audit")
    of_folds = merged(
        {"hardware": {"ranks": nproc}} if nproc else {}, parse_assignments(changes or ())
    )
    config = config_of(AuditConfig, locals() | {"changes": of_folds})
    opened = Opened()
    prepared = AUDIT_STAGE.prepared(config, opened)
    assert isinstance(prepared, PreparedAudit)
    config = going_on(launched, config, prepared.is_begun_by)
    with going_on_said(), show_progress():
        if plan:
            facts = _plan_of(replace(prepared, config=config))
        else:
            facts = audit_facts(perform(AUDIT_STAGE, config, opened), config.store)
    show_facts(facts)


def _plan_of(prepared: "PreparedAudit") -> dict[str, str]:
    """What an audit will take, without training."""
    from quickdraw_core.audit.summary import audit_plan_facts
    from quickdraw_core.launching.train import TRAIN_STAGE, PreparedTraining

    outlooks = [TRAIN_STAGE.outlook(fold, prepared.opened) for fold in prepared.folds]
    first = TRAIN_STAGE.prepared(prepared.folds[0], prepared.opened)
    assert isinstance(first, PreparedTraining)
    return audit_plan_facts(
        [f"{outlook.action}: {outlook.why}" for outlook in outlooks],
        first.estimate(),
        prepared.store.manifest.rows_kept,
    )
