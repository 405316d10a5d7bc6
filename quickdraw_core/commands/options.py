"""The options that several commands share, and the configurations made of them."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperOption

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.progress_display import DISPLAYS, display_as

if TYPE_CHECKING:
    from quickdraw_core.config import Config
    from quickdraw_core.training.config import TrainConfig

C = TypeVar("C", bound="Config")
F = TypeVar("F", bound=Callable[..., None])

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Folders, globs, files, zip files or addresses (s3://, gs://, https://) of Kaggle's "
        "CSVs or Google's ndjson or bin, one file a class."
    ),
]
StoreOption = Annotated[
    # Not a path, which would make one slash of two.
    str | None, typer.Option("--store", help="Folder of the store, or its address (s3://, gs://).")
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
Rows = Annotated[str | None, typer.Option()]
MAX_SEED = (1 << 63) - 1
"""The largest that both torch and numpy take."""
SEED_HELP = "Seed of all random choices."
Seed = Annotated[int | None, typer.Option(help=SEED_HELP)]
Dask = Annotated[str | None, typer.Option()]
MaxRejected = Annotated[float | None, typer.Option()]
AllowCut = Annotated[bool | None, typer.Option("--allow-cut")]
Strict = Annotated[bool | None, typer.Option("--strict")]
Fresh = Annotated[bool | None, typer.Option("--fresh")]
DryRun = Annotated[bool | None, typer.Option("--dry-run")]
RecipeOption = Annotated[
    str,
    typer.Option("--recipe", help="demo, laptop, laptop340, report, full, challenge or audit."),
]
Nproc = Annotated[
    int | None,
    typer.Option(
        "--nproc", min=1, help="Training processes; default: the recipe's, 1 or 2 on a CPU."
    ),
]
RunDir = Annotated[Path | None, typer.Option()]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow's address, or none; default: MLFLOW_TRACKING_URI, else mlflow.db."),
]
PerClass = Annotated[int | None, typer.Option()]
AllowShort = Annotated[bool | None, typer.Option("--allow-short")]
OtherStore = Annotated[bool | None, typer.Option("--other-store")]
Processes = Annotated[int | None, typer.Option("--nproc")]
JsonFile = Annotated[Path | None, typer.Option("--json")]
Prefect = Annotated[
    bool,
    typer.Option(
        "--prefect",
        help="Run as a flow of Prefect's, on a temporary server if none is configured.",
    ),
]
Average = Annotated[int | None, typer.Option()]
Models = Annotated[
    list[str],
    typer.Argument(
        help="Checkpoint, run folder, MLflow run id or models:/NAME@ALIAS; several guess together."
    ),
]
Tta = Annotated[str | None, typer.Option("--tta")]
PrecisionOption = Annotated[str | None, typer.Option("--precision")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Display = Annotated[
    str | None,
    typer.Option(
        "--progress",
        metavar="|".join(DISPLAYS),
        help="How progress is shown; default: rich on a terminal, plain lines elsewhere.",
    ),
]


class ConfiguredCommand(TyperCommand):
    """A command whose options are fields of a configuration: which one, `configured_by` says.

    An option that was not given is None, so that the field's default holds. Its help and default
    are looked up once they are shown: a configuration takes longer to load than all of them.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options' part of the help."""
        fields: dict[str, Any] = {}
        for path in reversed(getattr(self.callback, "configured_by", ())):
            module, name = path.split(":")
            fields |= getattr(import_module(module), name).model_fields
        for param in self.params:
            field = fields.get(param.name)
            if isinstance(param, TyperOption) and field is not None and param.default is None:
                if isinstance(field.default, str | int | float | Path):  # what a line can show
                    param.default = field.default
                text = field.description or ""
                param.help = param.help or f"{text[:1].upper()}{text[1:]}."
        super().format_options(ctx, formatter)


def configured_by(*configs: str) -> Callable[[F], F]:
    """Names the configurations that a command makes of its options: `module:Class`. A field is
    looked up in the first one that has it.
    """

    def decorate(command: F) -> F:
        command.configured_by = configs  # type: ignore[attr-defined]
        return command

    return decorate


def given(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of a command's options that were given. names: of options; none: all."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and (not names or name in names)
    }


def config_of(
    model: type[C], options: Mapping[str, Any], changes: Iterable[str] | None = None
) -> C:
    """The configuration that the options of a command make; `changes` (--set) come last.

    options: by the names of the fields; others, as a command's `locals()` holds, count for
    nothing.
    """
    config = model.parse(given(options, *model.model_fields))
    return config.updated(parse_assignments(changes or ()))


def with_progress_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options `--quiet` and `--progress`, which say how progress is shown."""
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


def comma_separated(texts: list[str] | None, option: str) -> list[str]:
    """The names in the values of an option. Raises `ConfigError` if one is empty."""
    names = [name.strip() for text in texts or () for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"{option} holds an empty name; separate names by single commas")
    return names


def words_of(classes: list[str] | None, classes_file: Path | None) -> tuple[str, ...] | None:
    """The words that either option names, or both; None: all."""
    from quickdraw_core.labels import read_classes_file, spaced

    if classes is None and classes_file is None:
        return None
    words = [spaced(word) for word in comma_separated(classes, "--classes")]
    return (*words, *(read_classes_file(classes_file) if classes_file is not None else ()))


def train_config_of(
    recipe: str, options: Mapping[str, Any], changes: Iterable[str] | None = None
) -> "TrainConfig":
    """A recipe with the options of `train` and `pipeline` laid over it; `changes` come last."""
    from quickdraw_core.recipes import find_recipe

    values = given(options, "store", "run_dir", "fresh")
    values["hardware"] = given(options, "ranks")
    values["hosts"] = options.get("hosts", {})
    if options.get("tracking_uri") is not None:
        values["tracking"] = {"uri": options["tracking_uri"]}
    whole = find_recipe(recipe)
    # At once: more ranks may take the smaller micro-batches that `changes` ask for.
    layers = (whole.model_dump(), values, parse_assignments(changes or ()))
    return whole.parse(whole.layered(*layers))


def with_fastest_ranks(config: "TrainConfig", changes: Mapping[str, Any]) -> "TrainConfig":
    """A training for which no number of ranks was asked, with as many as are fastest here; as it
    is if `changes` ask for one, or other hosts take part.
    """
    from quickdraw_core.training.hardware import fastest_ranks

    is_asked = "ranks" in (changes.get("hardware") or {})
    if is_asked or config.hosts.nodes > 1 or config.hosts.dask is not None:
        return config
    ranks = fastest_ranks(config.hardware, config.shape.micro_batches)
    return config.updated({"hardware": {"ranks": ranks}})
