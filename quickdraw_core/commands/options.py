"""The options that several commands share, and the configurations made of them."""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.progress_display import DISPLAYS, display_as

if TYPE_CHECKING:
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.training.config import TrainConfig

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Folders, globs, files, zip files or addresses (s3://, gs://, https://) of Kaggle's "
        "CSVs or Google's ndjson or bin, one file a class."
    ),
]
StoreOption = Annotated[
    # Not a path, which would make one slash of two.
    str, typer.Option("--store", help="Folder of the store, or its address (s3://, gs://).")
]
StoreArgument = Annotated[
    str,
    typer.Argument(metavar="STORE", help="Folder of the store, or its address (s3://, gs://)."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--classes", help="Words to use, with commas between; default: all."),
]
ClassesFile = Annotated[Path | None, typer.Option(help="Text file with words to use, one a line.")]
Rows = Annotated[str, typer.Option(help="Rows a class: all, head:N or spread:WxR.")]
MAX_SEED = (1 << 63) - 1
"""The largest that both torch and numpy take."""
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Seed of all that is left to chance.")
]
Dask = Annotated[
    str,
    typer.Option(
        help="local (threads), processes, or a scheduler: tcp://host:8786; tls://host:8786 with "
        "--set tls.ca_file=… tls.certificate=… tls.key=…"
    ),
]
MaxRejected = Annotated[
    float, typer.Option(min=0, max=1, help="Share of a file's rows that may be unreadable.")
]
AllowCut = Annotated[
    bool,
    typer.Option("--allow-cut", help="Keep what is there of files that end in mid-row."),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Stop at the first file that cannot be read, instead of leaving it out."
    ),
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="demo, laptop, laptop340, report or full.")
]
Nproc = Annotated[
    int | None,
    typer.Option(
        "--nproc", min=1, help="Training processes; default: the recipe's, 1 or 2 on a CPU."
    ),
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
AllowShort = Annotated[
    bool,
    typer.Option("--allow-short", help="Judge classes with fewer drawings on what they have."),
]
OtherStore = Annotated[
    bool,
    typer.Option("--other-store", help="Judge models that were trained on another store."),
]
Processes = Annotated[
    int | None, typer.Option("--nproc", min=1, help="Processes; default: one a GPU, or one.")
]
Prefect = Annotated[
    bool,
    typer.Option(
        "--prefect",
        help="Run as a flow of Prefect's, on a temporary server where none is configured.",
    ),
]
Average = Annotated[
    int, typer.Option(min=1, help="Mean of so many latest checkpoints of the run folder.")
]
Models = Annotated[
    list[str],
    typer.Argument(
        help="Checkpoint, run folder, MLflow run id or models:/NAME@ALIAS; several guess together."
    ),
]
Tta = Annotated[
    str, typer.Option("--tta", help="Looks at each drawing: none, or flip (mirrored as well).")
]

PrecisionOption = Annotated[
    str, typer.Option("--precision", help="Arithmetic, whatever the training's: fp32 or bf16.")
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Display = Annotated[
    str | None,
    typer.Option(
        "--progress",
        metavar="|".join(DISPLAYS),
        help="How progress is shown; default: rich on a terminal, plain lines elsewhere.",
    ),
]


def with_progress_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `--quiet` and `--progress`, which decide how its progress is shown."""
    added = {"quiet": (Quiet, False), "progress": (Display, None)}

    @wraps(command)
    def shown(*, quiet: bool, progress: str | None, **values: Any) -> None:
        with display_as("none" if quiet else progress):
            command(**values)

    own = signature(command)
    more = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in added.items()
    ]
    shown.__signature__ = own.replace(parameters=[*own.parameters.values(), *more])  # type: ignore[attr-defined]
    kinds = {name: kind for name, (kind, _) in added.items()}
    shown.__annotations__ = command.__annotations__ | kinds
    return shown


def words_of(classes: list[str] | None, classes_file: Path | None) -> tuple[str, ...] | None:
    """The words asked for in either way, or both; None where all are wanted."""
    from quickdraw_core.labels import read_classes_file, spaced

    if classes is None and classes_file is None:
        return None
    words = [spaced(word.strip()) for text in classes or () for word in text.split(",")]
    if not all(words):
        raise ConfigError("--classes holds an empty word; give words with commas between")
    return (*words, *(read_classes_file(classes_file) if classes_file is not None else ()))


def ingest_config_of(
    source: list[str],
    store: str | Path,
    classes: tuple[str, ...] | None,
    rows: str,
    seed: int,
    max_rejected: float,
    allow_cut: bool,
    dask: str,
    fresh: bool,
    strict: bool,
    changes: Iterable[str] | None,
) -> "IngestConfig":
    """The configuration that the options of `ingest` and `pipeline` make; `changes` come last."""
    from quickdraw_core.ingest.config import IngestConfig

    values: dict[str, Any] = {
        "source": source,
        "store": store,
        "classes": classes,
        "rows": rows,
        "seed": seed,
    }
    values |= {"max_rejected": max_rejected, "allow_cut": allow_cut, "dask": dask, "fresh": fresh}
    values |= {"strict": strict}
    config = IngestConfig.parse(values)
    return config.updated(parse_assignments(changes or ()))


def train_config_of(
    store: str | Path,
    recipe: str,
    nproc: int | None,
    run_dir: Path | None,
    fresh: bool,
    tracking_uri: str | None,
    changes: Iterable[str] | None,
) -> "TrainConfig":
    """A recipe with the options of `train` and `pipeline` laid over it; `changes` come last."""
    from quickdraw_core.recipes import find_recipe

    values: dict[str, Any] = {"store": store, "run_dir": run_dir, "fresh": fresh}
    values |= {"tracking_uri": tracking_uri} | ({"ranks": nproc} if nproc else {})
    return find_recipe(recipe).updated(values).updated(parse_assignments(changes or ()))
