"""The table of exit codes in docs/pipeline.md is that of the commands."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import command, environment_of
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError, QuickdrawError
from quickdraw_core.store.store import Store
from quickdraw_core.system.output_files import STDOUT, require_output
from quickdraw_core.terminal.console import errors, show_facts

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pipeline.md"
TABLE = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

REFUSED = {
    "generate": "generate csv --classes 99",
    "fetch": "fetch csv --classes nosuchword",
    "ingest": "ingest nowhere",
    "describe": "describe nowhere",
    "verify": "verify nowhere",
    "show": "show {store} --class nosuchword",
    "audit": "audit nowhere",
    "train": "train --store nowhere",
    "losses": "losses --plot x.pdf",
    "inspect": "inspect nowhere",
    "evaluate": "evaluate nowhere --store {store}",
    "compare": "compare nowhere nowhere2 --store {store}",
    "promote": "promote nowhere --store {store}",
    "export": "export nowhere --out bundle",
    "guess": "guess nowhere drawing.png",
    "serve": "serve nowhere --port 0",
    "play": "play nowhere",
    "predict": "predict nowhere test.csv",
    "check-submission": "check-submission nowhere.csv",
    "pseudo-label": "pseudo-label nowhere test.csv",
    "sweep": "sweep nosuchtable --store {store}",
    "pipeline": "pipeline nowhere",
    "demo": "demo --rows 5",
    "deploy": "deploy --dry-run --cron 1",
    "rerun": "rerun",
    "status": "status --since yesterday",
    "clean": "clean --older-than 30",
}
"""Of each command, one that is refused."""


def test_the_table_has_a_row_for_each_command() -> None:
    names = [
        made.name or made.callback.__name__.replace("_", "-")
        for made in app.registered_commands
        if made.callback is not None
    ]
    assert [name for name, *_ in TABLE] == names
    assert list(REFUSED) == names


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_exit_code_2_and_leaves_nothing(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, REFUSED[name].format(store=store.path).split())
    error = done.exception
    assert isinstance(error, QuickdrawError | SystemExit), repr(error)
    code = error.exit_code if isinstance(error, QuickdrawError) else error.code
    assert code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_answer_no_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("key_id,word\n1,cat\n")
    assert CliRunner().invoke(app, ["check-submission", str(tmp_path / "s.csv")]).exit_code == 1


@pytest.mark.parametrize("words", ["--help", "losses", "sweep --list", "describe {store} --json"])
def test_output_that_nobody_reads_ends_a_command_quietly(
    words: str, store: Store, tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*command(), *words.format(store=store.path).split()],
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment_of(tmp_path),
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_standard_output_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's `sys.stdout` is then None (`quickdraw … >&-`)."""
    spec = importlib.util.find_spec("quickdraw_core.terminal.console")
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setattr(sys, "stdout", None)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    with pytest.raises(ConfigError, match="standard output is closed; give the name of a file"):
        require_output(STDOUT)


def test_colons_in_a_name_are_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"run": "a:cat:b"})
    errors.print("no folder a:cat:b")
    told = capsys.readouterr()
    assert "a:cat:b" in told.out
    assert "a:cat:b" in told.err


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        {"COLUMNS": "20", "TERM": "dumb"},
        {"TERM": "none-such"},
    ],
    ids=["ascii", "narrow", "unknown terminal"],
)
def test_every_terminal_shows_it(variables: dict[str, str], store: Store, tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(), "describe", str(store.path)],
        capture_output=True,
        cwd=tmp_path,
        env=environment_of(tmp_path) | variables,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"ice" in done.stdout
