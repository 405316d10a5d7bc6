"""A command that is refused (exit code 2), or that only asks, leaves everything as it was."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.store.store import Store

RUN_ID = "0123456789abcdef0123456789abcdef"
REFUSED = [
    "generate csv --classes 99",
    "fetch downloads --classes sunn",
    "ingest nowhere",
    "ingest {csv} --store thesis",
    "ingest {csv} --classes sunn",
    "describe nowhere",
    "verify nowhere",
    "show {store} --class sunn --out a/b.png",
    "audit nowhere",
    "audit {store} --folds 1",
    "audit {store} --set select.exclude=nowhere.parquet",
    "train --store nowhere",
    "train --store {store} --set select.exclude=nowhere.parquet",
    "train --store {store} --set model=resnet",
    "train --store {store} --set max_steps=9 --set max_minutes=1 --run-dir new",
    "train --store {store} --plan --run-dir thesis/chapter.txt/x",
    "train --store {store} --set hardware.ranks=2 --set global_batch_size=3 --run-dir new",
    "losses --plot figure.txt",
    "inspect nothing",
    "inspect " + RUN_ID,
    "inspect models:/quickdraw@champion",
    "inspect models:/quickdraw/3",
    "evaluate nothing --store {store}",
    "evaluate " + RUN_ID + " --store {store} --report-dir new",
    "evaluate {run} --store {store} --json no/numbers.json --report-dir new",
    "compare {run} " + RUN_ID + " --store {store} --why --out new --json numbers.json",
    "promote " + RUN_ID + " --store {store}",
    "promote models:/quickdraw@champion --store {store} --dry-run",
    "export nothing --out new",
    "guess nothing drawing.png",
    "serve nothing --port 0",
    "play nothing",
    "play",
    "check-submission nowhere.csv test.csv",
    "predict nothing test.csv",
    "predict " + RUN_ID + " test.csv",
    "predict {run} nowhere.csv --out new.csv",
    "pseudo-label nothing test.csv",
    "pseudo-label {run} nowhere.csv --out new",
    "pseudo-label {run} {csv}/sun.csv --out new --at-least 1",
    "pseudo-label {run} {csv}/sun.csv --out {csv}",
    "sweep nothing --store {store}",
    "sweep report-small --store nowhere --run-dir new",
    "pipeline nowhere",
    "pipeline {csv} --set evaluate.average=5",
    "demo new --classes 99",
    "demo new --tracking-uri nowhere://x",
    "deploy --cron never --dry-run",
    "rerun",
    "rerun --last-failed --since 1d",
    "status --since yesterday",
    "pipeline {csv} --from nowhere",
    "deploy --alert nowhere --dry-run",
    "clean --runs nowhere",
    "clean --older-than 30",
]
ASKING = [
    "describe {store}",
    "describe {store} --json",
    "verify {store}",
    "losses",
    "inspect {run}",
    "inspect {run} --json",
    "sweep --list",
    "deploy --dry-run",
    "pipeline {csv} --store {store} --plan --tracking-uri none",
    "clean --dry-run",
    "--help",
]


def tree(folder: Path) -> dict[str, int]:
    """All that is in a folder, with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def words(
    csv_folder: Path, store: Store, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What stands for the places in a command; the working folder is one with a file in it."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING")]:
        monkeypatch.delenv(name)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    monkeypatch.chdir(tmp_path)
    return {"csv": str(csv_folder), "store": str(store.path), "run": str(trained)}


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_refused_leaves_no_trace(
    command: str, words: dict[str, str], tmp_path: Path
) -> None:
    before = [tree(tmp_path), *(tree(Path(word)) for word in words.values())]
    done = CliRunner().invoke(app, [word.format(**words) for word in command.split()])
    error = done.exception
    code = error.exit_code if isinstance(error, QuickdrawError) else done.exit_code
    assert code == 2, (error, done.output)
    assert [tree(tmp_path), *(tree(Path(word)) for word in words.values())] == before


@pytest.mark.parametrize("command", ASKING)
def test_what_only_asks_leaves_no_trace(
    command: str, words: dict[str, str], tmp_path: Path
) -> None:
    before = [tree(tmp_path), *(tree(Path(word)) for word in words.values())]
    done = CliRunner().invoke(app, [word.format(**words) for word in command.split()])
    assert done.exit_code == 0, (done.exception, done.output)
    assert [tree(tmp_path), *(tree(Path(word)) for word in words.values())] == before


def test_each_command_stands_in_the_table() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {command.split()[0].replace("-", "_") for command in REFUSED} == names
