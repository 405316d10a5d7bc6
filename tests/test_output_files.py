"""Files that options name, of every kind: regular, symlinks, pipes, devices, standard output."""

import csv
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError, WriteError
from quickdraw_core.evaluation.compare import prepare as prepare_comparison
from quickdraw_core.evaluation.config import CompareConfig, EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate as evaluate_model
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.system import output_files
from quickdraw_core.system.files import open_atomic
from quickdraw_core.terminal.console import console

OUTPUTS = {
    ("show", "out"),
    ("losses", "plot"),
    ("predict", "out"),
    ("predict", "probabilities"),
    ("evaluate", "json_file"),
    ("compare", "json_file"),
}
INPUTS_AND_FOLDERS = {
    *((command, "classes_file") for command in ("fetch", "ingest", "pipeline")),
    *((command, "run_dir") for command in ("train", "sweep", "pipeline")),
    *(("generate", "folder"), ("fetch", "folder"), ("demo", "folder")),
    *(("evaluate", "report_dir"), ("compare", "out_dir")),
    *(("audit", "out_dir"), ("export", "out"), ("export", "evaluation"), ("guess", "explain")),
    *(("pseudo_label", "out"),),
    *(("deploy", "home"), ("deploy", "file"), ("check_submission", "file"), ("clean", "runs")),
}
Write = Callable[[Path], str]
"""Runs a command with its output there; what it prints on standard output."""


def test_every_option_that_names_a_file_is_known_here() -> None:
    commands = [command.callback for command in app.registered_commands]
    found = {
        (command.__name__, name)
        for command in commands
        if command is not None
        for name, kind in get_type_hints(command).items()
        if kind in (Path, Path | None)
    }
    assert found == OUTPUTS | INPUTS_AND_FOLDERS


@pytest.fixture(autouse=True)
def stdout_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own forgets with its end where it printed; the tests share one."""
    monkeypatch.setattr(console, "stderr", False)


@pytest.fixture
def test_csv(csv_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "test.csv"
    with (csv_folder / "sun.csv").open(newline="") as file:
        rows = list(csv.reader(file))[:6]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def writers(trained: Path, store: Store, test_csv: Path, tmp_path: Path) -> dict[str, Write]:
    """What writes to each of OUTPUTS; what needs Prefect is called as its flows call it."""

    def command(*words: object) -> Write:
        def write(output: Path) -> str:
            done = CliRunner().invoke(app, [*map(str, words), str(output)])
            if done.exception is not None:
                raise done.exception
            return done.stdout

        return write

    values = {"store": store.path, "per_class": 20, "tracking_uri": "none"}
    judged = tmp_path / "judged"

    def evaluate(output: Path) -> str:
        asked = {"model": str(trained), "report_dir": judged, "json_file": output}
        evaluate_model(EvaluateConfig.parse(values | asked))
        return ""

    def compare(output: Path) -> str:
        first = min((trained / "checkpoints").glob("*.pt"))
        asked = {"models": (str(trained), str(first)), "json_file": output}
        prepare_comparison(CompareConfig.parse(values | asked), Opened()).run()
        return ""

    predict = ("predict", trained, test_csv, "--tracking-uri", "none")
    return {
        "show out": command("show", store.path, "--class", "sun", "--out"),
        "losses plot": command("losses", "--plot"),
        "predict out": command(*predict, "--out"),
        "predict probabilities": command(*predict, "--out", tmp_path / "s.csv", "--probabilities"),
        "evaluate json_file": evaluate,
        "compare json_file": compare,
    }


STARTS = {
    "show out": b"\x89PNG",
    "losses plot": b"\x89PNG",
    "predict out": b"key_id,word\n",
    "predict probabilities": b"PAR1",
    "evaluate json_file": b"{\n",
    "compare json_file": b"{\n",
}
"""How the files of the six options begin."""


@pytest.mark.parametrize("option", STARTS)
def test_pipes_are_written_to_and_symlinks_followed(
    option: str, writers: dict[str, Write], tmp_path: Path
) -> None:
    assert {tuple(name.split()) for name in STARTS} == OUTPUTS
    pipe, link, real = tmp_path / "pipe", tmp_path / "link.png", tmp_path / "real"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    writers[option](pipe)
    reader.join(300)
    assert read[0].startswith(STARTS[option])
    assert pipe.is_fifo()
    real.mkdir()
    link.symlink_to("real/there")
    if option.startswith(("predict", "show", "losses")):  # the other two take a second each
        writers[option](link)
        assert link.is_symlink()
        assert (real / "there").read_bytes().startswith(STARTS[option])
    assert [path.name for path in real.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("option", ["show out", "losses plot", "predict out"])
def test_a_dash_is_standard_output_and_the_rest_goes_to_standard_error(
    option: str, store: Store, trained: Path, test_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(test_csv.parent)
    words = {
        "show out": ["show", store.path, "--class", "sun", "--out"],
        "losses plot": ["losses", "--plot"],
        "predict out": ["predict", trained, "test.csv", "--tracking-uri", "none", "--out"],
    }[option]
    there = set(Path().iterdir())
    done = CliRunner().invoke(app, [*map(str, words), "-"])
    assert done.exception is None
    assert done.stdout_bytes.startswith(STARTS[option])
    for said in ("rows in", "drawings of", "figure "):
        assert said.encode() not in done.stdout_bytes
    assert done.stderr
    assert set(Path().iterdir()) == there


def test_a_dangling_link_names_the_file_that_is_made(tmp_path: Path) -> None:
    dangling = tmp_path / "link"
    dangling.symlink_to("new")
    output_files.require_output(dangling)
    output_files.write_output(dangling, "text")
    assert dangling.is_symlink()
    assert dangling.with_name("new").read_text() == "text"


def test_a_device_stays_one(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may not make a device")
    output_files.require_output(device)
    try:
        output_files.write_output(device, "text")
    except WriteError as error:  # a file system without devices
        assert "permission denied" in str(error)  # noqa: PT017
    assert device.is_char_device()


@pytest.mark.parametrize("name", ["stdout", "fd/1"])
def test_what_standard_output_goes_to_is_written_and_not_replaced(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled(), (tmp_path / "out").open("wb") as file:
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            assert output_files.is_stream(Path("/dev", name))
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert (tmp_path / "out").is_file()


def test_a_pipe_without_a_reader_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "_READER_SECONDS", 0.0)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="nobody reads from the pipe"):
        output_files.write_output(tmp_path / "pipe", "text")


def test_links_in_a_circle_and_files_for_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "a", "circle"),
        (tmp_path / "file" / "x", "no folder"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "x", "no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            output_files.require_output(path)


def test_an_error_of_a_file_that_is_read_names_that_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_atomic(tmp_path / "x"):
        (tmp_path / "gone").read_bytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_file_of_before(number: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with (
        pytest.raises(WriteError, match=r"cannot write .*x: "),
        open_atomic(tmp_path / "x"),
    ):
        raise OSError(number, os.strerror(number))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
