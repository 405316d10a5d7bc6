"""`quickdraw …`: the same functions that the flows call, with progress bars.

Heavy libraries are loaded by the command that needs them, so that `--help` answers at once.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from quickdraw_core.config import parse_assignments
from quickdraw_core.console import errors, show_facts, show_lines, show_progress, show_table
from quickdraw_core.errors import ConfigError, QuickdrawError
from quickdraw_core.summaries import (
    class_table,
    describe_facts,
    evaluate_facts,
    fetch_facts,
    ingest_facts,
    submission_facts,
    train_facts,
    verify_facts,
)

if TYPE_CHECKING:
    from quickdraw_core.evaluation.evaluate import EvaluateResult
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.training.config import TrainConfig

T = TypeVar("T")

_STOPPED = "stopped; the same command goes on from here"

app = typer.Typer(
    name="quickdraw",
    help="Quick, Draw! doodles to a trained, judged and comparable recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Folders, globs, files or addresses (s3://, gs://, https://) of Kaggle's CSVs or "
        "Google's ndjson or bin, one file a class."
    ),
]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the store.")]
Classes = Annotated[
    list[str] | None,
    typer.Option("--classes", help="Words to use, with commas between; default: all."),
]
ClassesFile = Annotated[Path | None, typer.Option(help="Text file with words to use, one a line.")]
Rows = Annotated[str, typer.Option(help="Rows a class: all, head:N or spread:WxR.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is left to chance.")]
Dask = Annotated[
    str, typer.Option(help="local (threads), processes, or a scheduler: tcp://host:8786.")
]
MaxRejected = Annotated[
    float, typer.Option(min=0, max=1, help="Share of a file's rows that may be unreadable.")
]
RecipeOption = Annotated[str, typer.Option("--recipe", help="demo, laptop or resnet18.")]
Nproc = Annotated[
    int | None, typer.Option("--nproc", min=1, help="Training processes; default: 2.")
]
RunDir = Annotated[
    Path | None, typer.Option(help="Folder of checkpoints and logs; default: runs/<name>.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow's address, or none; default: MLFLOW_TRACKING_URI, else mlflow.db."),
]
PerClass = Annotated[int, typer.Option(min=1, help="Held-out drawings a class.")]


@app.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Folder to write <word>.csv files to.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of words.")] = 24,
    rows: Annotated[int, typer.Option(min=1, help="Drawings a word.")] = 500,
    seed: Seed = 0,
) -> None:
    """Draw doodles by program and write them as Kaggle CSVs."""
    with show_progress():
        paths = _generate(folder, classes, rows, seed)
    show_facts({"drawings": f"{len(paths) * rows:,} of {len(paths)} words in {folder}"})


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(help="Folder to put <word>.ndjson or .bin into.")],
    classes: Classes = None,
    classes_file: ClassesFile = None,
    file_format: Annotated[
        str, typer.Option("--format", help="simplified, raw or binary.")
    ] = "simplified",
    base_url: Annotated[
        str | None,
        typer.Option(help="Address above simplified/, raw/ and binary/; default: Google's."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Connections at a time.")] = 4,
    changes: Set = None,
) -> None:
    """Download Google's files, of the challenge's 340 classes unless some are named; the same
    command again continues where it was.
    """
    from quickdraw_core.sources.fetch import FetchConfig
    from quickdraw_core.sources.fetch import fetch as download

    words = _words(classes, classes_file)
    values: dict[str, Any] = {"folder": folder, "format": file_format, "parallel": parallel}
    values |= {"classes": words} if words is not None else {}
    values |= {"base_url": base_url} if base_url else {}
    config = FetchConfig.parse(values).updated(parse_assignments(changes or ()))
    try:
        with show_progress():
            result = download(config)
    except KeyboardInterrupt:
        errors.print(_STOPPED, soft_wrap=True)
        raise
    show_facts(fetch_facts(result))


@app.command()
def ingest(
    source: Sources,
    store: StoreOption = Path("store"),
    classes: Classes = None,
    classes_file: ClassesFile = None,
    rows: Rows = "all",
    seed: Seed = 0,
    max_rejected: MaxRejected = 0.01,
    dask: Dask = "local",
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the store anew.")] = False,
    changes: Set = None,
) -> None:
    """Read drawings into a store: Parquet per class, with a manifest."""
    words = _words(classes, classes_file)
    config = _ingest_config(source, store, words, rows, seed, max_rejected, dask, fresh, changes)
    from quickdraw_core.ingest.run import check

    check(config)
    from flows.ingest import ingest as flow

    show_facts(ingest_facts(_run(lambda: flow(config))))


@app.command()
def describe(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    classes: Annotated[int, typer.Option(min=0, help="Classes to list, by word.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a store holds: classes, countries, strokes, points, splits."""
    from quickdraw_core.store.describe import describe_store

    if as_json:  # without a progress bar: what is printed is the JSON alone
        typer.echo(json.dumps(describe_store(store).to_json(), ensure_ascii=False, indent=1))
        return
    with show_progress():
        found = describe_store(store)
    show_facts(describe_facts(found))
    if classes:
        show_table(*class_table(found, classes))


@app.command()
def verify(store: Annotated[Path, typer.Argument(help="Folder of the store.")]) -> None:
    """Read a whole store again; exit code 1 and a list where something is off."""
    from quickdraw_core.store.verify import verify_store

    with show_progress():
        result = verify_store(store)
    show_facts(verify_facts(result))
    show_lines([f"problem: {problem}" for problem in result.problems])
    if result.problems:
        raise typer.Exit(1)


@app.command()
def train(
    store: StoreOption = Path("store"),
    recipe: RecipeOption = "laptop",
    nproc: Nproc = None,
    run_dir: RunDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start the run over.")] = False,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Train on a store; the same command again continues where it was."""
    config = _train_config(store, recipe, nproc, run_dir, fresh, tracking_uri, changes)
    from quickdraw_core.training.launch import check

    check(config)
    from flows.train import train as flow

    show_facts(train_facts(_run(lambda: flow(config))))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint, run folder or MLflow run id.")],
    store: StoreOption = Path("store"),
    per_class: PerClass = 100,
    report_dir: Annotated[
        Path | None, typer.Option(help="Folder of the report; default: in the run's folder.")
    ] = None,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Judge a model on the held-out drawings of a store."""
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.evaluation.evaluate import check

    config = EvaluateConfig.parse(
        {
            "model": model,
            "store": store,
            "per_class": per_class,
            "report_dir": report_dir,
            "tracking_uri": tracking_uri,
        }
    ).updated(parse_assignments(changes or ()))
    check(config)
    from flows.evaluate import evaluate as flow

    _show_evaluated(_run(lambda: flow(config)))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Checkpoint, run folder or MLflow run id.")],
    test_csv: Annotated[Path, typer.Argument(help="Kaggle's test_simplified.csv.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("submission.csv"),
    tracking_uri: Tracking = None,
) -> None:
    """Write a Kaggle submission: key_id and three guesses a row."""
    from quickdraw_core.evaluation.model import load_model
    from quickdraw_core.evaluation.submission import write_submission

    loaded = load_model(model, tracking_uri)
    with show_progress():
        result = write_submission(loaded, test_csv, out)
    show_facts(submission_facts(result))


@app.command()
def pipeline(
    source: Sources,
    store: StoreOption = Path("store"),
    classes: Classes = None,
    classes_file: ClassesFile = None,
    rows: Rows = "all",
    seed: Seed = 0,
    max_rejected: MaxRejected = 0.01,
    dask: Dask = "local",
    recipe: RecipeOption = "laptop",
    nproc: Nproc = None,
    run_dir: RunDir = None,
    per_class: PerClass = 100,
    fresh: Annotated[bool, typer.Option("--fresh", help="Store and run anew.")] = False,
    tracking_uri: Tracking = None,
    changes: Set = None,
) -> None:
    """Ingest, train and evaluate. --set takes ingest.…, train.… and evaluate.… keys."""
    by_stage = parse_assignments(changes or ())
    unknown = set(by_stage) - {"ingest", "train", "evaluate"}
    if unknown:
        raise ConfigError(
            f"--set {min(unknown)}=… names no stage; begin with ingest., train. or evaluate."
        )
    ingest_config = _ingest_config(
        source, store, _words(classes, classes_file), rows, seed, max_rejected, dask, fresh, None
    )
    train_config = _train_config(store, recipe, nproc, run_dir, fresh, tracking_uri, None)
    _pipeline(
        ingest_config.updated({"test_per_class": per_class} | by_stage.get("ingest", {})),
        train_config.updated({"seed": seed} | by_stage.get("train", {})),
        {"per_class": per_class} | by_stage.get("evaluate", {}),
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demo's data.")] = Path("demo"),
    classes: Annotated[int, typer.Option(min=2, help="Number of words.")] = 24,
    rows: Annotated[int, typer.Option(min=50, help="Drawings a word.")] = 500,
    seed: Seed = 0,
    nproc: Nproc = None,
    tracking_uri: Tracking = None,
) -> None:
    """Generate doodles, then the whole pipeline on them: no data, network or GPU needed."""
    source, store = folder / "csv", folder / "store"
    with show_progress():
        _generate(source, classes, rows, seed)
    ingest_config = _ingest_config(
        [str(source)], store, None, "all", seed, 0.0, "local", False, None
    )
    train_config = _train_config(store, "demo", nproc, None, False, tracking_uri, None)
    _pipeline(ingest_config, train_config.updated({"seed": seed}), {})


def _generate(folder: Path, classes: int, rows: int, seed: int) -> list[Path]:
    from quickdraw_core.progress import progress
    from quickdraw_core.sources.doodles.generator import generate_csvs
    from quickdraw_core.sources.doodles.programs import default_words

    words = default_words(classes)
    with progress("generate", len(words) * rows, "drawings") as bar:
        return generate_csvs(folder, words, rows, seed, on_rows=bar.advance)


def _words(classes: list[str] | None, classes_file: Path | None) -> tuple[str, ...] | None:
    """The words asked for in either way, or both; None where all are wanted."""
    from quickdraw_core.labels import read_classes_file, spaced

    if classes is None and classes_file is None:
        return None
    words = [spaced(word.strip()) for text in classes or () for word in text.split(",")]
    if not all(words):
        raise ConfigError("--classes holds an empty word; give words with commas between")
    return (*words, *(read_classes_file(classes_file) if classes_file is not None else ()))


def _ingest_config(
    source: list[str],
    store: Path,
    classes: tuple[str, ...] | None,
    rows: str,
    seed: int,
    max_rejected: float,
    dask: str,
    fresh: bool,
    changes: Iterable[str] | None,
) -> "IngestConfig":
    from quickdraw_core.ingest.config import IngestConfig

    values = {"source": source, "store": store, "classes": classes, "rows": rows, "seed": seed}
    values |= {"max_rejected": max_rejected, "dask": dask, "fresh": fresh}
    config = IngestConfig.parse(values)
    return config.updated(parse_assignments(changes or ()))


def _train_config(
    store: Path,
    recipe: str,
    nproc: int | None,
    run_dir: Path | None,
    fresh: bool,
    tracking_uri: str | None,
    changes: Iterable[str] | None,
) -> "TrainConfig":
    from quickdraw_core.recipes import find_recipe

    values: dict[str, Any] = {"store": store, "run_dir": run_dir, "fresh": fresh}
    values |= {"tracking_uri": tracking_uri} | ({"ranks": nproc} if nproc else {})
    return find_recipe(recipe).updated(values).updated(parse_assignments(changes or ()))


def _pipeline(
    ingest_config: "IngestConfig", train_config: "TrainConfig", evaluate_values: dict[str, Any]
) -> None:
    """Checks what can be checked, runs the flow, and says where everything is."""
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.ingest.run import check

    evaluate_config = EvaluateConfig.parse(evaluate_values)
    check(ingest_config)
    from flows.pipeline import pipeline as flow

    result = _run(lambda: flow(ingest_config, train_config, evaluate_config))
    show_facts(ingest_facts(result.ingest))
    show_facts(train_facts(result.train))
    _show_evaluated(result.evaluate)


def _run(work: Callable[[], T]) -> T:
    """Runs a flow under a progress display, on Prefect's temporary server where none is set."""
    from flows.local import start_local_server

    try:
        with show_progress(starting="Prefect"):
            start_local_server()
            return work()
    except KeyboardInterrupt:
        errors.print(_STOPPED, soft_wrap=True)
        raise


def _show_evaluated(result: "EvaluateResult") -> None:
    show_lines(result.guess_lines)
    show_facts(evaluate_facts(result))


def _quiet_environment() -> None:
    """Settings of the commands, unless the user has their own: no telemetry, no log lines.

    Without `PREFECT_API_URL`, Prefect starts a server of its own for the time of the command;
    its default patience of 20 seconds is too little on a slow machine.
    """
    for name, value in {
        "DASK_LOGGING__DISTRIBUTED": "error",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Entry point: an expected error is one line and its exit code, anything else a traceback."""
    _quiet_environment()
    try:
        app()
    except QuickdrawError as error:
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
