"""The command that guesses what files show."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickdraw_core.commands.options import Tracking
from quickdraw_core.commands.serving import ServedModel
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import errors, show_lines

if TYPE_CHECKING:
    from quickdraw_core.serving.drawing_files import FileDrawing, FileProblem
    from quickdraw_core.serving.recognizer import Guess, Recognizer

_AT_ONCE = 256
"""Rows of a file that are guessed together; a picture is guessed at once."""

PICTURE_SECONDS = 60.0
"""A picture that takes longer to read is given up."""


def guess(
    model: ServedModel,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Pictures (PNG, JPEG, WebP), SVG, ndjson or CSV, folders of them, or - for "
            "standard input."
        ),
    ],
    guesses: Annotated[
        int | None,
        typer.Option(
            "--guesses",
            min=1,
            help="How many words for each drawing; default: 3, or all of a model that has fewer.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line for each drawing.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain", help="Folder for pictures of what was understood: ink, strokes, pixels."
        ),
    ] = None,
    tracking_uri: Tracking = None,
) -> None:
    """Guess what drawings and pictures show; exit code 1 if a file cannot be read."""
    from quickdraw_core.exporting.open_recognizer import open_recognizer
    from quickdraw_core.formats.pictures.processes import PictureProcesses
    from quickdraw_core.serving.drawing_files import FileProblem, drawings_of, files_of

    names = files_of(files)
    recognizer = open_recognizer(model, tracking_uri)
    count = len(recognizer.label_map)
    if guesses is not None and guesses > count:
        raise ConfigError(f"--guesses {guesses} is more than the {count} words of the model")
    wanted = min(3, count) if guesses is None else guesses
    if explain is not None:
        _make_folder(explain)
    failed, taken = False, {Path(name).resolve() for name in names}
    with PictureProcesses(1, PICTURE_SECONDS) as processes:
        drawings = chain.from_iterable(drawings_of(name, processes.read) for name in names)
        for group in _groups(drawings):
            if isinstance(group, FileProblem):
                failed = True
                errors.print(f"{group.name}: {group.problem}", markup=False, soft_wrap=True)
                continue
            _guess_group(recognizer, group, wanted, as_json)
            if explain is not None:
                for item in group:
                    _explain(recognizer, item, wanted, explain, taken)
    if failed:
        raise typer.Exit(1)


def _groups(
    items: "Iterable[FileDrawing | FileProblem]",
) -> "Iterator[list[FileDrawing] | FileProblem]":
    """Drawings that are guessed together, and problems, in their order."""
    from quickdraw_core.serving.drawing_files import FileProblem

    group: list[FileDrawing] = []
    for item in items:
        if isinstance(item, FileProblem):
            if group:
                yield group
                group = []
            yield item
            continue
        group.append(item)
        if len(group) == _AT_ONCE or item.line is None:
            yield group
            group = []
    if group:
        yield group


def _guess_group(
    recognizer: "Recognizer",
    group: "list[FileDrawing]",
    count: int,
    as_json: bool,
) -> None:
    """Guesses drawings and prints a line for each."""
    from quickdraw_core.drawing import DrawingBatch
    from quickdraw_core.serving.recognizer import top_guesses

    batch = DrawingBatch.concat([item.drawing for item in group])
    guesses = top_guesses(recognizer.log_probabilities(batch), recognizer.label_map, count)
    for item, words in zip(group, guesses, strict=True):
        if as_json:
            typer.echo(json.dumps(_facts(item, words), ensure_ascii=False))
        else:
            show_lines([f"{item.name}: {_text(words)}"])


def _text(words: "list[Guess]") -> str:
    return ", ".join(f"{word} {probability:.1%}" for word, probability in words)


def _facts(item: "FileDrawing", words: "list[Guess]") -> dict[str, object]:
    return {
        "file": item.file,
        "line": item.line,
        **item.facts,
        "guesses": [{"word": word, "probability": probability} for word, probability in words],
    }


def _make_folder(folder: Path) -> None:
    """Makes the folder of `--explain`. Raises `ConfigError` if it cannot be made."""
    from quickdraw_core.system.files import cause_of

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(
            f"--explain {folder} is a file or a broken link; give the name of a folder"
        ) from error
    except OSError as error:
        raise ConfigError(f"--explain {folder} cannot be made: {cause_of(error)}") from error


def _explain(
    recognizer: "Recognizer", item: "FileDrawing", count: int, folder: Path, taken: set[Path]
) -> None:
    """Writes what was understood of a drawing: `cat-explained.png`, `cats-17-explained.png` for
    a row. Only figures of earlier commands are replaced: where anything else has that name, a
    number follows.

    taken: files that stay as they are: what is guessed, and what this command has written.
    """
    from quickdraw_core.serving.drawing_files import FIGURE_ENDING
    from quickdraw_core.serving.explaining import explained, may_be_written, save_figure
    from quickdraw_core.serving.recognizer import top_guesses
    from quickdraw_core.system.files import open_atomic

    stem = Path(item.file).stem + ("" if item.line is None else f"-{item.line}")
    path, number = folder / f"{stem}{FIGURE_ENDING}", 2
    while path.resolve() in taken or not may_be_written(path):
        path, number = folder / f"{stem}-{number}{FIGURE_ENDING}", number + 1
    taken.add(path.resolve())
    (words,) = top_guesses(recognizer.log_probabilities(item.drawing), recognizer.label_map, count)
    sheet = explained(item, recognizer.images(item.drawing), _text(words))
    with open_atomic(path) as file:
        save_figure(sheet, file)
