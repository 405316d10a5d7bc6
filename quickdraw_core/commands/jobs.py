"""Commands that run several stages."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.commands.data import generate_csvs_into, left_out_shown
from quickdraw_core.commands.launched import (
    going_on_ingest,
    going_on_training,
    redone_from,
    started_once,
)
from quickdraw_core.commands.models import show_evaluated
from quickdraw_core.commands.options import (
    MAX_SEED,
    SEED_HELP,
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
    config_of,
    configured_by,
    given,
    train_config_of,
    with_fastest_ranks,
    words_of,
)
from quickdraw_core.commands.reruns import Plan, RedoFrom, show_plan
from quickdraw_core.commands.running import flow_of, going_on_said, run
from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.system.child_environment import program_to_type
from quickdraw_core.terminal.console import leave_stdout_to, show_facts
from quickdraw_core.terminal.progress_display import show_progress

if TYPE_CHECKING:
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.pipeline import Pipeline, PipelineResult
    from quickdraw_core.training.config import TrainConfig


@configured_by(
    "quickdraw_core.ingest.config:IngestConfig",
    "quickdraw_core.inference.config:HeldOutConfig",
    "quickdraw_core.training.config:TrainConfig",
)
def pipeline(
    source: Sources,
    store: StoreOption = None,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    rows: Rows = None,
    seed: Seed = None,
    max_rejected: MaxRejected = None,
    allow_cut: AllowCut = None,
    dask: Dask = None,
    recipe: RecipeOption = "laptop",
    ranks: Nproc = None,
    run_dir: RunDir = None,
    per_class: PerClass = None,
    allow_short: AllowShort = None,
    strict: Strict = None,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Make the model the champion in MLflow if it is better."),
    ] = False,
    fresh: Annotated[bool | None, typer.Option("--fresh", help="New store and new run.")] = None,
    redo_from: RedoFrom = None,
    plan: Plan = False,
    tracking_uri: Tracking = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Ingest, train, evaluate, and with --promote make the better model the champion.

    --set takes ingest.…, train.…, evaluate.… and promote.… keys.
    """
    launched = started_once("a pipeline")
    by_stage = _by_stage(changes, promote)
    from quickdraw_core.ingest.config import IngestConfig

    options = locals()
    judging = given(options, "per_class", "allow_short")
    made = {"classes": words_of(classes, classes_file), "test_per_class": per_class}
    ingest_config = config_of(IngestConfig, options | made)
    train_config = train_config_of(recipe, options).updated(given(options, "seed"))
    ingest_config = ingest_config.updated(by_stage.get("ingest", {}))
    train_config = train_config.updated(by_stage.get("train", {}))
    if ranks is None:
        train_config = with_fastest_ranks(train_config, by_stage.get("train", {}))
    in_store = train_config.updated({"store": ingest_config.store})
    job = _job_of(
        going_on_ingest(launched, ingest_config),
        going_on_training(launched, in_store),
        judging | by_stage.get("evaluate", {}),
        judging | by_stage.get("promote", {}) if promote else None,
        redone_from(launched, redo_from, ingest_config, in_store),
    )
    if plan:
        from quickdraw_core.pipeline import plan_pipeline
        from quickdraw_core.stage import Opened

        show_plan(plan_pipeline(job, Opened()))
        return
    _run_job(job, prefect)


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demo's data.")] = Path("demo"),
    classes: Annotated[int, typer.Option(min=2, help="Number of words.")] = 24,
    rows: Annotated[int, typer.Option(min=50, help="Drawings a word.")] = 500,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help=SEED_HELP)] = 0,
    ranks: Nproc = None,
    tracking_uri: Tracking = None,
) -> None:
    """Generate doodles, and run the whole pipeline on them: no data, network or GPU needed."""
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.sources.doodles.programs import default_words
    from quickdraw_core.system.files import require_writable

    source, store, words = folder / "csv", folder / "store", default_words(classes)
    require_writable(source)
    values = {"source": source, "store": store, "seed": seed, "max_rejected": 0.0}
    ingest_config = IngestConfig.parse(values)
    train_config = train_config_of("demo", locals()).updated({"seed": seed})
    job = _job_of(ingest_config, train_config, {"allow_short": True}, None)
    from flows.temporary_server import begin_temporary_server

    with going_on_said(), show_progress():
        begin_temporary_server()  # it starts while the doodles are drawn
        generate_csvs_into(source, words, rows, seed)
    result = _run_job(job, prefect=True)
    play = f"{program_to_type('quickdraw')} play {os.path.relpath(result.train.run_dir)}"
    show_facts({"play": f"{play} (opens a page on which you draw and the model guesses)"})


def _by_stage(changes: list[str] | None, promote: bool) -> dict[str, Any]:
    """The options that `--set` gives each stage. Raises `ConfigError` if it names another one."""
    by_stage = parse_assignments(changes or ())
    unknown = set(by_stage) - {"ingest", "train", "evaluate", "promote"}
    if unknown:
        raise ConfigError(
            f"--set {min(unknown)}=… names no stage; begin with ingest., train., evaluate. or "
            "promote."
        )
    if "promote" in by_stage and not promote:
        raise ConfigError("--set promote.… takes --promote as well")
    return by_stage


def _job_of(
    ingest_config: "IngestConfig",
    train_config: "TrainConfig",
    evaluate_values: dict[str, Any],
    promote_values: dict[str, Any] | None,
    redo_from: str | None = None,
) -> "Pipeline":
    """What the stages are to do, once nothing about it is refused."""
    from quickdraw_core.evaluation.config import EvaluateConfig
    from quickdraw_core.pipeline import Pipeline, find_stage
    from quickdraw_core.promotion.config import PromoteConfig

    evaluate_config = EvaluateConfig.parse(evaluate_values)
    leave_stdout_to(evaluate_config.json_file)
    promote_config = None if promote_values is None else PromoteConfig.parse(promote_values)
    start = None if redo_from is None else find_stage(redo_from)
    job = Pipeline(ingest_config, train_config, evaluate_config, promote_config, start)
    job.check()
    return job


def _run_job(job: "Pipeline", prefect: bool) -> "PipelineResult":
    """Runs the stages, and says where everything is."""
    from quickdraw_core.ingest.ingest import INGEST_STAGE
    from quickdraw_core.pipeline import run_pipeline
    from quickdraw_core.stage import Opened, perform

    opened = Opened()
    INGEST_STAGE.prepared(job.ingest, opened)
    with left_out_shown():
        result = run(
            lambda: run_pipeline(job, perform, opened),
            lambda: flow_of("pipeline")(
                job.ingest, job.train, job.evaluate, job.promote, job.redo_from
            ),
            opened,
            prefect,
        )
    from quickdraw_core.launching.summary import train_facts

    show_facts(ingest_facts(result.ingest))
    show_facts(train_facts(result.train))
    show_evaluated(result.evaluate)
    if result.promote is not None:
        from quickdraw_core.promotion.summary import promote_facts

        show_facts(promote_facts(result.promote))
    return result
