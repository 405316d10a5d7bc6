"""A full disk, a limit on files, a folder that may not be written to: one line that names the file
and the cause, what was there as it was, and nothing half-written.
"""

import errno
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from surroundings import bound_by_permissions
from typer.testing import CliRunner

from quickdraw_core.cli import app, machine_fault
from quickdraw_core.commands.running import run_flow
from quickdraw_core.errors import ConfigError, QuickdrawError, StoreError, WriteError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.stage import Opened
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def failure(*words: object) -> QuickdrawError:
    """What a command raises, which `main` prints as one line."""
    error = CliRunner().invoke(app, [*map(str, words)]).exception
    assert error is not None
    fault = machine_fault(error)
    assert fault is not None, repr(error)
    assert "\n" not in str(fault)
    return fault


@pytest.fixture
def places(trained: Path, store: Store, csv_folder: Path, tmp_path: Path) -> dict[str, object]:
    test = tmp_path / "test.csv"
    test.write_text("".join((csv_folder / "sun.csv").read_text().splitlines(True)[:40]))
    return {"run": trained, "store": store.path, "csv": csv_folder, "test": test}


READ_ONLY = {
    "generate": "generate {ro} --classes 1 --rows 5",
    "fetch": "fetch {ro} --classes sun --base-url http://127.0.0.1:9",
    "show": "show {store} --class sun --out {ro}/x.png",
    "losses": "losses --plot {ro}/x.png",
    "train": "train --store {store} --run-dir {ro}/run --tracking-uri none",
    "sweep": "sweep report-small --store {store} --run-dir {ro}/s --tracking-uri none",
    "evaluate --json": "evaluate {run} --store {store} --tracking-uri none --json {ro}/x.json",
    "evaluate": "evaluate {run} --store {store} --tracking-uri none --report-dir {ro}/report",
    "compare --json": "compare {run} {run} --store {store} --tracking-uri none --json {ro}/x",
    "compare": "compare {run} {run} --store {store} --tracking-uri none --out {ro}/c",
    "predict": "predict {run} {test} --tracking-uri none --out {ro}/x.csv",
    "probabilities": "predict {run} {test} --tracking-uri none --probabilities {ro}/p",
    "pseudo-label": "pseudo-label {run} {test} --tracking-uri none --out {ro}/labels",
    "pipeline": "pipeline {csv} --store {ro}/s --run-dir {ro}/run --tracking-uri none",
    "demo": "demo {ro}/demo --classes 2 --rows 50",
}
"""A command for each place that the commands write to; `ingest` is asked below."""


@pytest.mark.parametrize("words", READ_ONLY.values(), ids=READ_ONLY)
def test_a_folder_that_may_not_be_written_to_is_refused_before_work(
    words: str, places: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ro"
    folder.mkdir(mode=0o555)
    before = files_of(tmp_path)
    with bound_by_permissions():
        fault = failure(*words.format(ro=folder, **places).split())
    assert fault.exit_code == 2
    assert str(folder) in str(fault)
    assert "ermission denied" in str(fault)
    assert files_of(tmp_path) == before


def test_ingest_refuses_a_folder_that_may_not_be_written_to(
    csv_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ro"
    folder.mkdir(mode=0o555)
    config = IngestConfig.parse({"source": csv_folder, "store": folder / "store"})
    with bound_by_permissions(), pytest.raises(ConfigError, match="permission denied"):
        ingest(config)
    assert not any(folder.iterdir())


TOO_LARGE = {
    "generate": "generate new --classes 1 --rows 20",
    "show": "show {store} --class sun --out x.png",
    "losses": "losses --plot x.png",
    "predict": "predict {run} {test} --tracking-uri none --out x.csv",
    "probabilities": "predict {run} {test} --tracking-uri none --probabilities x.png",
    "pseudo-label": "pseudo-label {run} {test} --tracking-uri none --out new --at-least 0.3",
}


@pytest.mark.parametrize("words", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_file_that_may_not_grow_is_named_and_the_one_of_before_stays(
    words: str, places: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_text("old")
    (tmp_path / "x.csv").write_text("old")
    before = files_of(tmp_path)
    command = words.format(**places).split()
    with limited(resource.RLIMIT_FSIZE, 300):
        fault = failure(*command)
    assert any(word in str(fault) for word in ("x.png", "x.csv", "new", "submission.csv"))
    assert "ulimit -f" in str(fault)
    assert files_of(tmp_path) == before


def test_a_checkpoint_that_has_no_room_leaves_the_last_one(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    last = latest_checkpoint(tmp_path, lambda _: True).checkpoint
    assert last is not None
    before = files_of(tmp_path)
    with (
        limited(resource.RLIMIT_FSIZE, 10_000),
        pytest.raises(WriteError, match=r"cannot write .*\.pt: .*ulimit -f"),
    ):
        save_checkpoint(tmp_path, last, is_best=False, keep=3)
    assert files_of(tmp_path) == before


def test_a_pack_takes_its_room_before_it_is_filled(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("pack"))
    copy = Store.open(tmp_path / "store")
    before = files_of(tmp_path)
    with limited(resource.RLIMIT_FSIZE, 10_000), pytest.raises(WriteError, match="ulimit -f"):
        open_pack(copy)
    assert files_of(tmp_path) == before
    assert len(open_pack(copy)) == len(np.concatenate([t for _, t in copy.tables(["key_id"])]))


def test_too_many_open_files_are_not_taken_for_damage(trained: Path, store: Store) -> None:
    path = next((trained / "checkpoints").glob("*.pt"))
    with limited(resource.RLIMIT_NOFILE, 3):  # the numbers below it are in use
        with pytest.raises(StoreError) as of_store:
            Manifest.read(store.path)
        with pytest.raises(OSError, match="open files") as of_checkpoint:
            load_checkpoint(path)
        with pytest.raises(OSError, match="open files"):
            latest_checkpoint(trained, lambda _: True)
    assert "--fresh" not in str(of_store.value)
    assert "ulimit -n" in str(of_store.value)
    assert "ulimit -n" in str(machine_fault(of_checkpoint.value))


def test_a_flow_is_refused_where_too_few_files_may_be_open() -> None:
    with (
        limited(resource.RLIMIT_NOFILE, 63),
        pytest.raises(ConfigError, match="63 files may be open at once"),
    ):
        run_flow(lambda: None, Opened())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS])
def test_whatever_a_library_makes_of_it_the_cause_is_said(number: int) -> None:
    inner = OSError(number, "as the system says", "a/file")
    outer = RuntimeError("unexpected pos 2447104 vs 2447000")
    outer.__cause__ = inner
    for error in (inner, outer):
        fault = machine_fault(error)
        assert fault is not None
        assert str(fault).startswith("cannot use a/file: ")
        assert fault.exit_code == 1
    assert machine_fault(ValueError("a defect")) is None
    assert machine_fault(FileNotFoundError(errno.ENOENT, "no such file", "x")) is None
