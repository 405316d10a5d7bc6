"""Commands on drawings and stores."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.launched import going_on_ingest, started_once
from quickdraw_core.commands.options import (
    MAX_SEED,
    SEED_HELP,
    AllowCut,
    Classes,
    ClassesFile,
    Dask,
    Fresh,
    MaxRejected,
    Prefect,
    Rows,
    Seed,
    Set,
    Sources,
    StoreArgument,
    StoreOption,
    Strict,
    config_of,
    configured_by,
    words_of,
)
from quickdraw_core.commands.running import STOPPED, run_stage
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.store.summary import class_table, describe_facts, verify_facts
from quickdraw_core.terminal.console import (
    errors,
    leave_stdout_to,
    show_facts,
    show_lines,
    show_table,
)
from quickdraw_core.terminal.progress_display import show_progress

if TYPE_CHECKING:
    from quickdraw_core.sources.fetch import FetchResult


def generate(
    folder: Annotated[Path, typer.Argument(help="Folder to write <word>.csv files to.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of words.")] = 24,
    rows: Annotated[int, typer.Option(min=1, help="Drawings a word.")] = 500,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help=SEED_HELP)] = 0,
) -> None:
    """Draw doodles by program and write them as Kaggle CSVs."""
    from quickdraw_core.sources.doodles.programs import default_words

    with show_progress():
        paths = generate_csvs_into(folder, default_words(classes), rows, seed)
    show_facts({"drawings": f"{len(paths) * rows:,} of {len(paths)} words in {folder}"})


@configured_by("quickdraw_core.sources.fetch:FetchConfig")
def fetch(
    folder: Annotated[Path, typer.Argument(help="Folder to put <word>.ndjson or .bin into.")],
    classes: Classes = None,
    classes_file: ClassesFile = None,
    format: Annotated[str | None, typer.Option()] = None,
    base_url: Annotated[str | None, typer.Option()] = None,
    parallel: Annotated[int | None, typer.Option()] = None,
    changes: Set = None,
) -> None:
    """Download Google's files, of the challenge's 340 classes unless some are named; the same
    command continues a stopped download.
    """
    from quickdraw_core.sources.fetch import fetch as download
    from quickdraw_core.sources.fetch_config import FetchConfig

    words = words_of(classes, classes_file)
    config = config_of(FetchConfig, locals() | {"classes": words}, changes)
    try:
        with show_progress():
            result = download(config)
    except KeyboardInterrupt:
        errors.print(STOPPED, soft_wrap=True)
        raise
    show_facts(_fetch_facts(result))


@configured_by("quickdraw_core.ingest.config:IngestConfig")
def ingest(
    source: Sources,
    store: StoreOption = None,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    rows: Rows = None,
    seed: Seed = None,
    max_rejected: MaxRejected = None,
    allow_cut: AllowCut = None,
    dask: Dask = None,
    strict: Strict = None,
    fresh: Fresh = None,
    prefect: Prefect = False,
    changes: Set = None,
) -> None:
    """Read drawings into a store: Parquet per class, with a manifest. A file that cannot be read
    is left out and named, with exit code 1.
    """
    from quickdraw_core.ingest.config import IngestConfig

    launched = started_once("an ingest")
    words = words_of(classes, classes_file)
    config = config_of(IngestConfig, locals() | {"classes": words}, changes)
    config = going_on_ingest(launched, config)
    from quickdraw_core.ingest.ingest import INGEST_STAGE

    with left_out_shown():
        show_facts(ingest_facts(run_stage(INGEST_STAGE, config, prefect)))


@contextmanager
def left_out_shown() -> Iterator[None]:
    """A block whose error, that classes were left out, comes with what the store holds now."""
    from quickdraw_core.ingest.result import LeftOutError

    try:
        yield
    except LeftOutError as error:
        show_facts(ingest_facts(error.result))
        raise


def describe(
    store: StoreArgument,
    classes: Annotated[int, typer.Option(min=0, help="Classes to list, by word.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a store holds: classes, countries, strokes, points, splits."""
    from quickdraw_core.storage.location import location_of
    from quickdraw_core.store.describe import describe_store

    if as_json:  # without a progress bar: what is printed is the JSON alone
        typer.echo(json.dumps(describe_store(location_of(store)).to_json(), indent=1))
        return
    with show_progress():
        description = describe_store(location_of(store))
    show_facts(describe_facts(description))
    if classes:
        show_table(*class_table(description, classes))


def verify(store: StoreArgument) -> None:
    """Read and check a whole store; list what is wrong, with exit code 1."""
    from quickdraw_core.storage.location import location_of
    from quickdraw_core.store.verify import verify_store

    with show_progress():
        result = verify_store(location_of(store))
    show_facts(verify_facts(result))
    show_lines([f"problem: {problem}" for problem in result.problems])
    if result.problems:
        raise typer.Exit(1)


def show(
    store: StoreArgument,
    word: Annotated[str, typer.Option("--class", help="Word whose drawings are shown.")],
    out: Annotated[
        Path | None,
        typer.Option(help="PNG to write, - for standard output; default: <word>.png here."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Drawings of which split: all, train, validation or test.")
    ] = "all",
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Another seed shows other drawings.")
    ] = 0,
) -> None:
    """Write 24 drawings of a class, 3 rows of 8, as a picture."""
    from quickdraw_core.labels import underscored
    from quickdraw_core.loading.select import find_label
    from quickdraw_core.loading.show import write_grid
    from quickdraw_core.storage.location import location_of
    from quickdraw_core.store.holdout import Split
    from quickdraw_core.store.pack import open_pack
    from quickdraw_core.store.store import Store

    sides: dict[str, Split | None] = {"all": None} | {s.name.lower(): s for s in Split}
    if split not in sides:
        raise ConfigError(f"unknown split {split!r}: {nearest(split, sides)}")
    path = out or Path(f"{underscored(word)}.png")
    leave_stdout_to(path)
    opened = Store.open(location_of(store))
    find_label(opened.label_map, word)
    with show_progress():
        shown = write_grid(open_pack(opened), word, path, sides[split], seed)
    show_facts({"picture": f"{path} ({shown} drawings of {word})"})


def generate_csvs_into(folder: Path, words: Sequence[str], rows: int, seed: int) -> list[Path]:
    """Draws doodles of some words into a folder of CSVs, with a progress bar."""
    from quickdraw_core.progress import progress
    from quickdraw_core.sources.doodles.generator import generate_csvs

    with progress("generate", len(words) * rows, "drawings") as bar:
        return generate_csvs(folder, words, rows, seed, on_rows=bar.advance)


def _fetch_facts(result: "FetchResult") -> dict[str, str]:
    """What is in the folder now, and what had to be fetched for it."""
    files = len(result.fetched) + len(result.present)
    facts = {
        "files": f"{files:,} of {result.format} drawings in {result.folder}, "
        f"{result.size_bytes:,} bytes"
    }
    if not result.fetched:
        return facts | {"fetched": "nothing, all files were there"}
    how = [f"{len(result.present):,} were there"] if result.present else []
    how += [f"{len(result.continued):,} continued"] if result.continued else []
    more = f" ({', '.join(how)})" if how else ""
    fetched = f"{len(result.fetched):,} files, {result.received_bytes:,} bytes{more}"
    return facts | {"fetched": fetched}
