"""Commands that run several stages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.commands.data import generate_csvs_into, left_out_shown
from quickdraw_core.commands.models import show_evaluated
from quickdraw_core.commands.options import (
    AllowCut,
    AllowShort,
    Classes,
    ClassesFile,
    Dask,
    MaxRejected,
    Nproc,
    PerClass,
    Prefect,
    RecipeOption,
    Rows,
    RunDir,
    Seed,
    Set,
    Sources,
    StoreOption,
    Strict,
    Tracking,
    ingest_config_of,
    train_config_of,
    words_of,
)
from quickdraw_core.commands.running import flow_of, going_on_said, run
from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.terminal.console import leave_stdout_to, show_facts
from quickdraw_core.terminal.progress_display import show_progress
from quickdraw_core.terminal.summaries import promote_facts

if TYPE_CHECKING:
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.pipeline import Pipeline
    from quickdraw_core.training.config import TrainConfig


def pipeline(
    source: Sources,
    store: StoreOption = "store",
    classes: Classes = None,
    classes_file: ClassesFile = None,
    rows: Rows = "all",
    seed: Seed = 0,
    max_rejected: MaxRejected = 0.01,
    allow_cut: AllowCut = False,
    dask: Dask = "local",
    recipe: RecipeOption = "laptop",
    nproc: Nproc = None,
    run_dir: RunDir = None,
    per_class: PerClass = 100,
    allow_short: AllowShort = False,
    strict: Strict = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Make the model the champion in MLflow if it is better."),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Store and run anew.")] = False,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Ingest, train, evaluate, and with --promote make the better model the champion.

    --set takes ingest.…, train.…, evaluate.… and promote.… keys.
    """
    by_stage = parse_assignments(changes or ())
    unknown = set(by_stage) - {"ingest", "train", "evaluate", "promote"}
    if unknown:
        raise ConfigError(
            f"--set {min(unknown)}=… names no stage; begin with ingest., train., evaluate. or "
            "promote."
        )
    if "promote" in by_stage and not promote:
        raise ConfigError("--set promote.… takes --promote as well")
    words = words_of(classes, classes_file)
    ingest_config = ingest_config_of(
        source, store, words, rows, seed, max_rejected, allow_cut, dask, fresh, strict, None
    )
    train_config = train_config_of(store, recipe, nproc, run_dir, fresh, tracking_uri, None)
    job = _job_of(
        ingest_config.updated({"test_per_class": per_class} | by_stage.get("ingest", {})),
        train_config.updated({"seed": seed} | by_stage.get("train", {})),
        {"per_class": per_class, "allow_short": allow_short} | by_stage.get("evaluate", {}),
        {"per_class": per_class, "allow_short": allow_short} | by_stage.get("promote", {})
        if promote
        else None,
    )
    _run_job(job, prefect)


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demo's data.")] = Path("demo"),
    classes: Annotated[int, typer.Option(min=2, help="Number of words.")] = 24,
    rows: Annotated[int, typer.Option(min=50, help="Drawings a word.")] = 500,
    seed: Seed = 0,
    nproc: Nproc = None,
    tracking_uri: Tracking = None,
) -> None:
    """Generate doodles, then the whole pipeline on them: no data, network or GPU needed."""
    from quickdraw_core.sources.doodles.programs import default_words
    from quickdraw_core.system.files import require_writable

    source, store, words = folder / "csv", folder / "store", default_words(classes)
    require_writable(source)
    ingest_config = ingest_config_of(
        [str(source)], store, None, "all", seed, 0.0, False, "local", False, False, None
    )
    train_config = train_config_of(store, "demo", nproc, None, False, tracking_uri, None)
    job = _job_of(ingest_config, train_config.updated({"seed": seed}), {"allow_short": True}, None)
    from flows.local import begin_local_server

    with going_on_said(), show_progress():
        begin_local_server()  # it starts while the doodles are drawn
        generate_csvs_into(source, words, rows, seed)
    _run_job(job, prefect=True)


def _job_of(
    ingest_config: "IngestConfig",
    train_config: "TrainConfig",
    evaluate_values: dict[str, Any],
    promote_values: dict[str, Any] | None,
) -> "Pipeline":
    """What the stages are to do, once nothing about it is refused."""
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.pipeline import Pipeline
    from quickdraw_core.promotion.promote import PromoteConfig

    evaluate_config = EvaluateConfig.parse(evaluate_values)
    leave_stdout_to(evaluate_config.json_file)
    promote_config = None if promote_values is None else PromoteConfig.parse(promote_values)
    job = Pipeline(ingest_config, train_config, evaluate_config, promote_config)
    job.check()
    return job


def _run_job(job: "Pipeline", prefect: bool) -> None:
    """Runs the stages, and says where everything is."""
    from quickdraw_core.ingest.run import INGEST_STAGE
    from quickdraw_core.pipeline import run_pipeline
    from quickdraw_core.stage import Opened, perform

    opened = Opened()
    INGEST_STAGE.prepared(job.ingest, opened)
    with left_out_shown():
        result = run(
            lambda: run_pipeline(job, perform, opened),
            lambda: flow_of("pipeline")(job.ingest, job.train, job.evaluate, job.promote),
            opened,
            prefect,
        )
    from quickdraw_core.launching.summary import train_facts

    show_facts(ingest_facts(result.ingest))
    show_facts(train_facts(result.train))
    show_evaluated(result.evaluate)
    if result.promote is not None:
        show_facts(promote_facts(result.promote))
