"""The command that gives drawings the word that models are sure of."""

from pathlib import Path
from typing import Annotated

import typer

from quickdraw_core.commands.options import (
    Average,
    Dask,
    Models,
    PrecisionOption,
    Set,
    Tracking,
    Tta,
    config_of,
    configured_by,
)
from quickdraw_core.terminal.console import show_facts
from quickdraw_core.terminal.progress_display import show_progress


@configured_by("quickdraw_core.pseudo_labels.config:PseudoLabelConfig")
def pseudo_label(
    model: Models,
    drawings: Annotated[
        str,
        typer.Argument(
            help="CSV of drawings without labels: test_simplified.csv or test_raw.csv, or .gz."
        ),
    ],
    out: Annotated[Path | None, typer.Option()] = None,
    at_least: Annotated[float | None, typer.Option()] = None,
    correct_prior: Annotated[
        bool | None, typer.Option("--correct-prior/--no-correct-prior")
    ] = None,
    temperature: Annotated[float | None, typer.Option()] = None,
    tta: Tta = None,
    precision: PrecisionOption = None,
    average: Average = None,
    dask: Dask = None,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Give drawings without labels the word that models are sure of: CSVs to ingest as a second
    store, from which a training learns as well (--set select.also=STORE).
    """
    from quickdraw_core.cluster.computing import computing
    from quickdraw_core.cluster.connect import check_certificates
    from quickdraw_core.inference.ensemble import load_models
    from quickdraw_core.pseudo_labels.config import PseudoLabelConfig
    from quickdraw_core.pseudo_labels.pseudo_label import check_output_folder, write_pseudo_labels
    from quickdraw_core.pseudo_labels.summary import pseudo_label_facts

    config = config_of(PseudoLabelConfig, locals(), changes)
    check_certificates(config.tls)
    check_output_folder(config.out)
    models = load_models(
        model, config.tracking_uri, config.average, config.tta, precision=config.precision
    )
    with show_progress(), computing(config, else_do=", or leave out --dask") as workers:
        made = write_pseudo_labels(models, config, workers)
    show_facts(pseudo_label_facts(made, config.at_least))
