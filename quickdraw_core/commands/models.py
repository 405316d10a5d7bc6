"""Commands on models: training, looking into, judging and using one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.launched import launched_train_config, shown_once
from quickdraw_core.commands.options import (
    AllowShort,
    Average,
    Dask,
    Fresh,
    JsonFile,
    Models,
    Nproc,
    OtherStore,
    PerClass,
    PrecisionOption,
    Prefect,
    Processes,
    RecipeOption,
    RunDir,
    Set,
    StoreOption,
    Tracking,
    Tta,
    config_of,
    configured_by,
)
from quickdraw_core.commands.running import flow_of, run, run_stage
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import (
    leave_stdout_to,
    show_facts,
    show_lines,
    show_table,
)
from quickdraw_core.terminal.progress_display import show_progress

if TYPE_CHECKING:
    from quickdraw_core.evaluation.result import EvaluateResult
    from quickdraw_core.training.config import TrainConfig


@configured_by("quickdraw_core.training.config:TrainConfig")
def train(
    store: StoreOption = None,
    recipe: RecipeOption = "laptop",
    ranks: Nproc = None,
    run_dir: RunDir = None,
    fresh: Fresh = None,
    tracking_uri: Tracking = None,
    nnodes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Hosts that train together; default: 1, or those of srun or torchrun."
        ),
    ] = None,
    node_rank: Annotated[
        int | None, typer.Option(min=0, help="Number of this host, from 0; default: as nnodes.")
    ] = None,
    rendezvous: Annotated[
        str | None,
        typer.Option(help="host:port of host 0, for several hosts; port 0: any."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(help="Dask scheduler on whose workers to train, as tcp://host:8786."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only say what it will take, by a probe of 21 steps: time, memory, disk.",
        ),
    ] = False,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Train on a store; the same command continues a stopped training."""
    config, launched = launched_train_config(locals(), changes)
    if plan:
        if not launched.node_rank:
            _show_plan(config, prefect)
        return
    from quickdraw_core.launching.summary import train_facts
    from quickdraw_core.launching.train import TRAIN_STAGE

    with shown_once(launched):
        facts = train_facts(run_stage(TRAIN_STAGE, config, prefect))
    show_facts({} if launched.node_rank else facts)


def _show_plan(config: "TrainConfig", prefect: bool) -> None:
    """Prints what a training will take, without training."""
    from quickdraw_core.launching.summary import estimate_facts
    from quickdraw_core.launching.train import prepare
    from quickdraw_core.stage import Opened

    opened = Opened()
    prepared = prepare(config, opened)
    show_facts(
        estimate_facts(
            run(prepared.estimate, lambda: flow_of("train")(config, plan=True), opened, prefect)
        )
    )


def losses(
    plot: Annotated[
        Path | None, typer.Option(help="PNG or SVG of loss against margin; - is standard output.")
    ] = None,
) -> None:
    """List the losses, and draw them against the margin."""
    from quickdraw_core.modeling.losses import LOSSES

    leave_stdout_to(plot)
    if plot is not None:
        from quickdraw_core.reporting.loss_figure import draw_loss_figure

        draw_loss_figure(plot)
    show_table(
        ["loss", "label smoothing", "what it is"],
        [[name, "yes" if row.smooths else "no", row.reason] for name, row in LOSSES.items()],
        numbers=False,
    )
    if plot is not None:
        show_facts({"figure": str(plot)})


def inspect(
    model: Annotated[str, typer.Argument(help="Checkpoint, run folder or MLflow run id.")],
    tracking_uri: Tracking = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a model is: config, step, metrics, classes, versions, digest of its weights."""
    from quickdraw_core.inference.inspection import inspect_facts, inspect_model
    from quickdraw_core.inference.references import load_model

    inspection = inspect_model(load_model(model, tracking_uri))
    if as_json:
        typer.echo(json.dumps(inspection, indent=1))
    else:
        show_facts(inspect_facts(inspection))


def _refuse_balance(given: bool) -> None:
    if given:
        from quickdraw_core.challenge.submission import BALANCE_REFUSED

        raise ConfigError(BALANCE_REFUSED)


_NoBalance = Annotated[bool, typer.Option("--balance", hidden=True, callback=_refuse_balance)]


@configured_by("quickdraw_core.evaluation.config:EvaluateConfig")
def evaluate(
    model: Models,
    store: StoreOption = None,
    per_class: PerClass = None,
    tta: Tta = None,
    precision: PrecisionOption = None,
    average: Average = None,
    json_file: JsonFile = None,
    allow_short: AllowShort = None,
    other_store: OtherStore = None,
    ranks: Processes = None,
    dask: Dask = None,
    report_dir: Annotated[Path | None, typer.Option()] = None,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
    balance: _NoBalance = False,
) -> None:
    """Judge a model on the held-out drawings of a store: MAP@3 and more, with intervals."""
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.evaluation.delivering import delivering_ahead
    from quickdraw_core.stage import Opened

    first, *further = model
    config = config_of(EvaluateConfig, locals() | {"model": first, "ensemble": further}, changes)
    leave_stdout_to(config.json_file)
    opened = Opened()
    with delivering_ahead(config, opened):
        from quickdraw_core.evaluation.evaluate import EVALUATE_STAGE

        result = run_stage(EVALUATE_STAGE, config, prefect, opened)
    show_evaluated(result)


@configured_by("quickdraw_core.evaluation.config:EvaluateConfig")
def predict(
    model: Models,
    test_csv: Annotated[
        str, typer.Argument(help="Kaggle's test_simplified.csv or test_raw.csv, also with .gz.")
    ],
    out: Annotated[Path, typer.Option(help="File to write, - for standard output.")] = Path(
        "submission.csv"
    ),
    tta: Tta = None,
    precision: PrecisionOption = None,
    average: Average = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", help="Guess all classes first equally often, as the challenge's are."
        ),
    ] = False,
    probabilities: Annotated[
        Path | None, typer.Option(help="Write all classes' probabilities to this Parquet file.")
    ] = None,
    dask: Dask = None,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Write a Kaggle submission: key_id and three guesses a row."""
    from quickdraw_core.challenge.submission import write_submission
    from quickdraw_core.challenge.summary import submission_facts
    from quickdraw_core.cluster.computing import computing
    from quickdraw_core.cluster.connect import check_certificates
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.inference.ensemble import load_models

    leave_stdout_to(out, probabilities)
    asked = config_of(EvaluateConfig, locals() | {"model": None}, changes)
    check_certificates(asked.tls)
    models = load_models(
        model, asked.tracking_uri, asked.average, asked.tta, precision=asked.precision
    )
    with show_progress(), computing(asked, else_do=", or leave out --dask") as workers:
        result = write_submission(models, test_csv, out, balance, probabilities, workers)
    show_facts(submission_facts(result))


def check_submission(
    file: Annotated[Path, typer.Argument(help="Submission to check.")],
    test_csv: Annotated[
        str | None,
        typer.Argument(help="Test file that it answers; default: the challenge's."),
    ] = None,
) -> None:
    """Say whether Kaggle would take a submission; if not, list why, with exit code 1."""
    from quickdraw_core.challenge.check_submission import check_submission as check

    checked = check(file, test_csv)
    state = f"{len(checked.problems):,} problems" if checked.problems else "all is right"
    show_facts({"submission": f"{checked.path} ({checked.rows:,} rows, {state})"})
    show_lines([f"problem: {problem}" for problem in checked.problems])
    if checked.problems:
        raise typer.Exit(1)


def show_evaluated(result: "EvaluateResult") -> None:
    """Prints the table of guesses and the scores."""
    from quickdraw_core.evaluation.summary import evaluate_facts, score_table

    show_lines(result.guess_lines)
    show_table(*score_table(result))
    show_facts(evaluate_facts(result))
