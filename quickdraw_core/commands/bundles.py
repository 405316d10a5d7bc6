"""Commands on bundles: what guesses without the code that trained it."""

from pathlib import Path
from typing import Annotated

import typer

from quickdraw_core.commands.options import (
    AllowShort,
    Average,
    Models,
    OtherStore,
    PerClass,
    Set,
    StoreOption,
    Tracking,
    Tta,
    config_of,
    configured_by,
)
from quickdraw_core.terminal.console import show_facts
from quickdraw_core.terminal.progress_display import show_progress


@configured_by("quickdraw_core.exporting.config:ExportConfig")
def export(
    models: Models,
    out: Annotated[Path, typer.Option()],
    name: Annotated[str | None, typer.Option()] = None,
    tta: Tta = None,
    average: Average = None,
    evaluation: Annotated[Path | None, typer.Option()] = None,
    quantize: Annotated[str | None, typer.Option(metavar="int8")] = None,
    store: StoreOption = None,
    per_class: PerClass = None,
    allow_short: AllowShort = None,
    other_store: OtherStore = None,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Write a bundle: a model as ONNX with words, numbers and model card, to guess and serve."""
    from quickdraw_core.exporting.config import ExportConfig
    from quickdraw_core.exporting.export import EXPORT_STAGE
    from quickdraw_core.exporting.summary import export_facts
    from quickdraw_core.stage import perform

    config = config_of(ExportConfig, locals(), changes)
    with show_progress():
        result = perform(EXPORT_STAGE, config)
    show_facts(export_facts(result))
